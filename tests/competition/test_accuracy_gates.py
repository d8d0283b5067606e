"""The perplexity gate on the emulator, its limits to the last bit, its words, its tokenizers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accuracy.perplexity import cut
from accuracy.perplexity_pieces import read_text
from accuracy.perplexity_tokens import load_served
from backends import create_backend
from backends.engines import Engines, probe
from backends.info import EngineInfo
from competition import perplexity_gate
from competition.files import write_json
from competition.gate import GateResult, failure_text, run_gate, success_text, validation_block
from competition.perplexity_gate import METRICS, find_tokenizer, percent
from competition.profile import Profile, load_profile
from competition.texts import wikitext_sha256
from core.errors import ConfigError, HarnessError, RunError, SetupError
from tests.competition.stub import serve
from tests.harness import emulator

LOGPROB = -1.375
PROFILE = load_profile("gptoss-fp4-vllm-mi355x")
LINE = " = A title = \n\n Some words of the text , and a naïve one @-@ here . \n"
BOTH = pytest.mark.parametrize("dialect", ["vllm", "sglang"])


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "wiki.test.raw"
    path.write_text(LINE * 1400, encoding="utf-8")
    return path


@pytest.fixture
def environ(text: Path, tmp_path: Path) -> dict[str, str]:
    """With a Hugging Face cache that is empty."""
    return {"WIKITEXT": str(text), "HF_HOME": str(tmp_path)}


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    flags = ("--logprob", str(LOGPROB), "--dialect")
    with emulator(*flags, "vllm") as one, emulator(*flags, "sglang") as two:
        yield {"vllm": one.url, "sglang": two.url}


def with_limits(
    baselines: dict[str, float], multiplier: float = 1.0, text_sha256: str = ""
) -> Profile:
    accuracy = replace(
        PROFILE.accuracy, baselines=baselines, multiplier=multiplier, text_sha256=text_sha256
    )
    return replace(PROFILE, accuracy=accuracy)


def run(
    profile: Profile, url: str, environ: dict[str, str], said: list[str] | None = None
) -> GateResult:
    say = [].append if said is None else said.append
    return run_gate(profile, probe((url,), "auto"), environ, say)


@BOTH
def test_the_figures_are_those_of_the_engines_logprobs(
    urls: dict[str, str], dialect: str, environ: dict[str, str], text: Path
) -> None:
    pieces, served = cut(read_text(text), None), load_served(None)
    assert len(pieces) > 10
    total = LOGPROB * sum(len(served.encode(piece.text)) for piece in pieces)
    per_byte = -total / len(read_text(text).encode())
    said: list[str] = []
    result = run(PROFILE, urls[dialect], environ, said)
    expected = {
        "bits_per_byte": per_byte / math.log(2),
        "byte_perplexity": math.exp(per_byte),
        "word_perplexity": math.exp(per_byte * 3.794),
    }
    assert result.metrics == pytest.approx(expected, rel=1e-12)
    assert (result.kind, result.passed, result.details["derived"]) == ("perplexity", True, True)
    assert [limit.name for limit in result.limits] == list(METRICS)
    assert said[-1].endswith(f"{len(pieces)} of {len(pieces)} (100 %)")
    assert len(said) in (11, 12)
    assert 0 < result.seconds < 60


def test_exactly_at_the_limit_passes_and_a_bit_more_fails(
    urls: dict[str, str], environ: dict[str, str]
) -> None:
    url = urls["vllm"]
    found = run(PROFILE, url, environ).metrics
    assert run(with_limits(found), url, environ).passed
    for name in METRICS:
        lower = found | {name: math.nextafter(found[name], 0)}
        result = run(with_limits(lower), url, environ)
        assert not result.passed
        assert [limit.name for limit in result.limits if not limit.passed] == [name]
        assert math.nextafter(found[name], 0) == result.limits[METRICS.index(name)].limit


def test_the_limit_is_the_baseline_times_the_multiplier(
    urls: dict[str, str], environ: dict[str, str]
) -> None:
    result = run(PROFILE, urls["vllm"], environ)
    shown = [f"{limit.limit:.4f}" for limit in result.limits]
    assert shown == ["2.1175", "4.2824", "229.4730"]


def test_the_words_of_a_failure(urls: dict[str, str], environ: dict[str, str]) -> None:
    found = run(PROFILE, urls["vllm"], environ).metrics
    low = found | {"bits_per_byte": 0.1, "word_perplexity": 1.1}
    result = run(with_limits(low, 1.03), urls["vllm"], environ)
    assert failure_text(result).splitlines() == [
        "ERROR: Accuracy validation FAILED!",
        f"bits_per_byte: {found['bits_per_byte']:.4f} > 0.1030",
        f"word_perplexity: {found['word_perplexity']:.4f} > 1.1330",
        "One or more metrics exceed the baseline by over 3 %.",
        "The performance benchmark will not run.",
        "Please investigate the accuracy before going on.",
    ]
    block = validation_block(with_limits(low, 1.03), result)
    assert (block["status"], block["threshold_multiplier"]) == ("FAILED", 1.03)
    assert block["baselines"] == low
    assert block["thresholds"]["bits_per_byte"] == 0.1 * 1.03
    assert json.loads(json.dumps(block)) == block


def test_the_words_of_a_success(urls: dict[str, str], environ: dict[str, str]) -> None:
    result = run(PROFILE, urls["vllm"], environ)
    found = result.metrics
    assert success_text(result).splitlines() == [
        f"✓ bits_per_byte: {found['bits_per_byte']:.4f} <= 2.1175",
        f"✓ byte_perplexity: {found['byte_perplexity']:.4f} <= 4.2824",
        f"✓ word_perplexity: {found['word_perplexity']:.4f} <= 229.4730",
    ]
    assert validation_block(PROFILE, result)["status"] == "PASSED"


def test_what_is_better_by_more_than_the_tolerance_is_noted(
    urls: dict[str, str], environ: dict[str, str], text: Path
) -> None:
    url, digest = urls["vllm"], wikitext_sha256(text)
    found = run(PROFILE, url, environ).metrics
    just = {"byte_perplexity": found["byte_perplexity"] / 0.9701}
    assert len(run(with_limits(just, 1.03, digest), url, environ).notes) == 1  # derived
    more = {"byte_perplexity": found["byte_perplexity"] / 0.9699}
    result = run(with_limits(more, 1.03, digest), url, environ)
    assert result.passed
    assert "changed protocol" in result.notes[1]
    assert "more than 3 % below" in result.notes[1]


def test_another_text_is_not_comparable(
    urls: dict[str, str], environ: dict[str, str], text: Path
) -> None:
    result = run(PROFILE, urls["vllm"], environ)
    assert "not comparable" in result.notes[0]
    assert (result.details["whole"], result.details["comparable"]) == (True, False)
    known = with_limits({"bits_per_byte": 9.0}, text_sha256=wikitext_sha256(text))
    result = run(known, urls["vllm"], environ)
    assert not any("comparable" in note for note in result.notes)
    assert result.details["comparable"] is True


def test_replicas_take_turns(environ: dict[str, str]) -> None:
    with emulator("--logprob=-1") as one, emulator("--logprob=-2") as two:
        engines = probe((one.url, two.url), "auto")
        result = run_gate(PROFILE, engines, environ, [].append)
        truths = [len(one.truth()), len(two.truth())]
    mean = -result.details["total_logprob"] / result.details["n_tokens"]
    assert 1.2 < mean < 1.8
    assert min(truths) > 5
    assert "2 replicas took turns" in result.notes[-1]


def test_an_engine_without_logprobs_ends_the_gate(environ: dict[str, str]) -> None:
    with emulator() as clock, pytest.raises(RunError, match="HTTP 400"):
        run(PROFILE, clock.url, environ)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_a_failed_request_ends_the_gate(environ: dict[str, str], kind: str) -> None:
    """Every answer after the first, which opens the measurement, is an error."""
    asked = 0

    def answer(_: str, body: bytes) -> tuple[int, bytes]:
        nonlocal asked
        asked += 1
        value = json.loads(body)
        ids = value.get("prompt") or value["input_ids"]
        meta = {"prompt_tokens": len(ids)}
        entries = [[None if i == 0 else -1.0, token, None] for i, token in enumerate(ids)]
        logprobs = [None, *({str(token): {"logprob": -1.0}} for token in ids[1:])]
        said: dict[str, Any] = {"choices": [{"prompt_logprobs": logprobs}], "usage": meta}
        if kind == "sglang":
            said = {"meta_info": meta | {"input_token_logprobs": entries}}
        return (200 if asked == 1 else 500), json.dumps(said).encode()

    with serve(answer) as url, pytest.raises(RunError, match=r"piece \d.*HTTP 500"):
        infos = (EngineInfo(url, kind, None, "m", None),)
        run_gate(PROFILE, Engines(create_backend(kind, "m"), (), infos), environ, [].append)


def byte_tokenizer(folder: Path) -> Path:
    """A tokenizer of which each of the 256 bytes is a token."""
    tokenizers: Any = pytest.importorskip("tokenizers")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(letters)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_tokens(["<pad>"])  # as in some of Llama-2's copies: does not count
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_llama_pieces_measure_the_word_perplexity(
    urls: dict[str, str],
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tokenizer of bytes stands for Llama-2's: a piece has 2047 words, and BOS."""
    monkeypatch.setattr(perplexity_gate, "LLAMA2_VOCABULARY", 256)
    byte_tokenizer(tmp_path)
    short = tmp_path / "short"
    short.write_text("x" * 3000)
    more = {"WIKITEXT": str(short), "LLAMA2_TOKENIZER": str(tmp_path)}
    result = run(PROFILE, urls["vllm"], environ | more)
    assert (result.details["derived"], result.details["n_pieces"]) == (False, 2)
    expected = math.exp(-result.details["total_logprob"] / (3000 + 2))
    assert result.metrics["word_perplexity"] == pytest.approx(expected)
    assert not any("derived" in note for note in result.notes)


def test_another_tokenizer_than_llamas_is_refused(
    urls: dict[str, str], environ: dict[str, str], tmp_path: Path
) -> None:
    wrong = {"LLAMA2_TOKENIZER": str(byte_tokenizer(tmp_path))}
    said = f"LLAMA2_TOKENIZER {tmp_path}: has a vocabulary of 256, Llama-2's has 32000: name"
    with pytest.raises(ConfigError, match=said):
        run(PROFILE, urls["vllm"], environ | wrong)


def test_answers_that_are_infinitely_bad_fail(environ: dict[str, str], tmp_path: Path) -> None:
    """exp(1500) is no float."""
    with emulator("--logprob=-1500") as clock:
        result = run(PROFILE, clock.url, environ)
    assert (result.passed, result.metrics["word_perplexity"]) == (False, math.inf)
    assert f"word_perplexity: inf > {result.limits[2].limit:.4f}" in failure_text(result)
    block = {"accuracy": result.metrics, "validation": validation_block(PROFILE, result)}
    write_json(tmp_path / "accuracy.json", block)
    found = json.loads((tmp_path / "accuracy.json").read_text(), parse_constant=pytest.fail)
    assert found["accuracy"]["word_perplexity"] is None
    assert found["accuracy"]["bits_per_byte"] == result.metrics["bits_per_byte"]
    assert found["validation"]["status"] == "FAILED"


def model_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "tokenizer.json").write_text("{}")
    return path


def test_where_the_served_tokenizer_comes_from(tmp_path: Path) -> None:
    empty = {"HF_HOME": str(tmp_path / "nothing")}
    local = model_folder(tmp_path / "model")
    assert find_tokenizer(PROFILE, empty) is None
    assert find_tokenizer(PROFILE, empty | {"MODEL": str(local)}) == local
    both = {"MODEL": str(local), "TOKENIZER": "/elsewhere"}
    assert find_tokenizer(PROFILE, empty | both) == Path("/elsewhere")
    model = tmp_path / "home" / "hub" / "models--openai--gpt-oss-120b"
    old, new = (model_folder(model / "snapshots" / name) for name in ("a", "b"))
    for environ in ({"HF_HOME": str(tmp_path / "home")}, {"HF_HUB_CACHE": str(model.parent)}):
        assert find_tokenizer(PROFILE, environ) == old
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("b\n")
    assert find_tokenizer(PROFILE, environ) == new
    assert find_tokenizer(PROFILE, {"XDG_CACHE_HOME": str(tmp_path / "nothing")}) is None
    (tmp_path / "home").rename(tmp_path / "huggingface")
    found = find_tokenizer(PROFILE, {"XDG_CACHE_HOME": str(tmp_path)})
    assert found == tmp_path / "huggingface" / new.relative_to(tmp_path / "home")


def test_no_tokenizer_is_guessed(tmp_path: Path, text: Path) -> None:
    other = load_profile("dsr1-fp4-sglang-mi355x")
    environ = {"HF_HOME": str(tmp_path), "WIKITEXT": str(text)}
    with pytest.raises(SetupError, match="TOKENIZER"):
        find_tokenizer(other, environ)
    with pytest.raises(HarnessError, match="no such file"):
        run_gate(
            PROFILE,
            Engines(create_backend("vllm", "m"), (), ()),
            environ | {"TOKENIZER": str(tmp_path)},
            [].append,
        )


def test_percent() -> None:
    assert [percent(value) for value in (1.03, 1.005, 1.1)] == ["3", "0.5", "10"]
