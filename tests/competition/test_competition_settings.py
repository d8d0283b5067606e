"""Environment variables to settings: the original's defaults and warnings, less its slips."""

from __future__ import annotations

from pathlib import Path

import pytest

from competition.profile import Lengths, load_profile, profile_names
from competition.settings import Settings, read_settings
from core.errors import ConfigError

GPT, DEEPSEEK = load_profile("gptoss-fp4-vllm-mi355x"), load_profile("dsr1-fp4-sglang-mi355x")
SCRIPT = {  # what specific_conc_var.sh exports
    "MODEL": "openai/gpt-oss-120b",
    "PORT": "8888",
    "TP": "8",
    "ISL": "1024",
    "OSL": "1024",
    "CONC": "8",
    "MAX_MODEL_LEN": "16384",
    "RANDOM_RANGE_RATIO": "1.0",
    "NUM_PROMPTS": "80",
    "RESULT_FILENAME": "result_isl1024_osl1024_conc8",
}


def single(**changes: str) -> Settings:
    return read_settings(GPT, SCRIPT | changes, batch=False)


def test_the_script_leaves_nothing_to_warn_about() -> None:
    found = single()
    assert found.warnings == ()
    assert (found.lengths, found.concurrency, found.n_prompts) == (Lengths(1024, 1024), 8, 80)
    assert found.urls == ("http://127.0.0.1:8888",)
    assert found.result == Path("result_isl1024_osl1024_conc8")


def test_the_originals_defaults_each_with_a_warning() -> None:
    found = read_settings(GPT, {"MODEL": "m"}, batch=False)
    assert (found.tp, found.concurrency, found.n_prompts) == (8, 8, 80)
    assert (found.lengths, found.max_model_len, found.range_ratio) == ((1024, 1024), 16384, 1.0)
    assert found.result == Path("result")
    names = [warning.split()[0] for warning in found.warnings]
    assert names == [
        *("PORT", "TP", "ISL", "OSL", "CONC"),
        *("MAX_MODEL_LEN", "RANDOM_RANGE_RATIO", "NUM_PROMPTS", "RESULT_FILENAME"),
    ]


def test_no_model_names_the_script_to_source() -> None:
    with pytest.raises(ConfigError, match=r"gptoss-fp4-vllm-mi355x/specific_conc_var\.sh"):
        read_settings(GPT, {}, batch=False)
    with pytest.raises(ConfigError, match=r"dsr1-fp4-sglang-mi355x/all_conc_var\.sh"):
        read_settings(DEEPSEEK, {}, batch=True)


def test_a_later_conc_is_noticed_where_the_others_still_say_eight() -> None:
    """The seed's FAQ: export CONC=16 after sourcing."""
    found = single(CONC="16")
    assert (found.concurrency, found.n_prompts) == (16, 80)
    assert found.result == Path("result_isl1024_osl1024_conc16")
    assert "160" in found.warnings[0] and "conc16" in found.warnings[1]
    assert single(CONC="16", NUM_PROMPTS="160", RESULT_FILENAME="mine.json").result == Path("mine")


def test_a_batch_obeys_all_but_the_points_own() -> None:
    changed = SCRIPT | {"MAX_MODEL_LEN": "9999", "RANDOM_RANGE_RATIO": "0.8"}
    found = read_settings(GPT, changed, batch=True)
    point = found.at(Lengths(8192, 1024), 4, Path("b"))
    assert (point.max_model_len, point.range_ratio) == (9999, 0.8)
    assert (point.n_prompts, point.result) == (40, Path("b/result_isl8192_osl1024_conc4"))


def test_prompts_per_concurrency_are_the_profiles() -> None:
    for lengths, each in (((1024, 1024), 50), ((1024, 8192), 20), ((8192, 1024), 50)):
        assert DEEPSEEK.prompts(Lengths(*lengths), 4) == 4 * each


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONC", "0"),
        ("CONC", "eight"),
        ("TP", "-1"),
        ("PORT", "8888.5"),
        ("RANDOM_RANGE_RATIO", "2"),
        ("RANDOM_RANGE_RATIO", "nan"),
        ("SEED", "x"),
        ("SEED", "4294967296"),
        ("PORT", "99999"),
        ("NUM_PROMPTS", "7"),  # fewer than CONC
        ("RESULT_FILENAME", "runs/.."),
        ("RESULT_FILENAME", "/"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} {value}"):
        single(**{name: value})


def test_used_gpus_are_those_of_all_replicas() -> None:
    urls = ("http://a:1", "http://b:1")
    assert read_settings(GPT, SCRIPT | {"TP": "2"}, urls, batch=False).gpus_used == 4


def test_every_profile_is_whole() -> None:
    for profile in map(load_profile, profile_names()):
        for (lengths, concurrency), baseline in profile.baselines.items():
            assert concurrency in profile.rules[lengths].concurrencies
            assert min(baseline.median_e2e_ms, baseline.interactivity, baseline.tput_per_gpu) > 0
        assert {"PORT", "TP", "CONC", "ISL", "OSL"} <= profile.defaults.keys()


def test_the_competitions_figures() -> None:
    """From the facts of the competition's own program, retyped."""
    rules = {str(rule.lengths): rule.concurrencies for rule in GPT.rules.values()}
    assert rules == {"1024/1024": (4, 8, 16), "1024/8192": (4, 8, 16), "8192/1024": (4, 8)}
    assert (Lengths(1024, 1024), 16) not in GPT.baselines
    assert GPT.baselines[Lengths(8192, 1024), 8].tput_per_gpu == 2892.223
    thresholds = {name: 1.03 * value for name, value in GPT.accuracy.baselines.items()}
    assert {name: round(value, 4) for name, value in thresholds.items()} == {
        "bits_per_byte": 2.1175,
        "byte_perplexity": 4.2824,
        "word_perplexity": 229.473,
    }
    newer = load_profile("gptoss-fp4-vllm-mi355x-2026-03")
    assert newer.rules[Lengths(8192, 1024)].concurrencies == (4, 32, 128)
