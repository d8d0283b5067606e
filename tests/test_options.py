"""The command line: the reference's names, the newer ones, and what wins."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from backends.warmup import ladder_prompts
from core.config import RunConfig
from core.errors import ConfigError
from core.scenario import Scenario
from options import parse_options


def parse(*flags: str) -> RunConfig:
    return parse_options(["--mode", "offline", *flags])[0]


def test_defaults_are_a_demonstration() -> None:
    config = parse()
    assert config.demonstration and config.input_file.exists() and config.user_conf.exists()
    assert config.backend == "auto" and config.server_urls == ()


def test_rules_are_the_defaults_with_real_input() -> None:
    config = parse("--input-file", "x.parquet")
    assert (config.sampling.max_tokens, config.sampling.temperature) == (10240, 1.0)
    assert parse("--input-file", "x", "--accuracy").sampling.max_tokens == 32768


def test_every_option_of_the_reference() -> None:
    config = parse(
        "--input-file", "a.pkl", "--max-samples", "5", "--mlperf-conf", "m", "--user-conf", "u",
        "--accuracy", "--output-dir", "o", "--backend", "sglang", "--server-url", "http://a:1",
        "--max-tokens", "9", "--temperature", "0.5", "--top-k", "3", "--top-p", "0.9",
        "--num-workers", "2", "--max-concurrency", "7",
    )  # fmt: skip
    assert config.max_samples == 5 and config.accuracy and config.backend == "sglang"
    assert config.sampling.top_k == 3 and config.sampling.top_p == 0.9
    assert (config.num_workers, config.max_concurrency) == (2, 7)
    assert config.run_dir == Path("o/offline/accuracy")


def test_newer_names_are_aliases(tmp_path: Path) -> None:
    generation = tmp_path / "g.json"
    generation.write_text(json.dumps({"max_new_tokens": 5, "top_k": 4, "eos_token_id": [1]}))
    config, _ = parse_options(
        ["--scenario", "interactive", "--max-new-tokens", "77", "--timeout", "9",
         "--generation-config", str(generation)]
    )  # fmt: skip
    assert config.scenario is Scenario.INTERACTIVE
    assert (config.sampling.max_tokens, config.sampling.top_k) == (77, 4)  # a flag wins
    assert config.timeouts.total_s == 9


def test_server_urls_by_comma_or_repeated() -> None:
    config = parse("--server-url", "http://a:1,http://b:1", "--server-url", "http://c:1")
    assert config.server_urls == ("http://a:1", "http://b:1", "http://c:1")


def test_servers_of_a_file_come_after_those_named(tmp_path: Path) -> None:
    file = tmp_path / "servers.txt"
    file.write_text("# two replicas\nhttp://b:1  # the second\n\n  c:2\r\n")
    assert parse("--servers", str(file)).server_urls == ("http://b:1", "c:2")
    both = parse("--server-url", "http://a:1", "--servers", str(file))
    assert both.server_urls == ("http://a:1", "http://b:1", "c:2")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("http://a:1\n# x\nhttp://b:99999\n", "line 3: http://b:99999: the port is not a number"),
        ("https://a:1\n", "line 1: https://a:1: only http://"),
        ("http://a:1 http://b:1\n", "line 1: http://a:1 http://b:1: "),
        ("http://a:1,http://b:1\n", "line 1: http://a:1,http://b:1: the port"),
        ("http://a:1/v1\n", "line 1: http://a:1/v1: expected http://HOST:PORT"),
        ("\nhttp://a:1\nhttp://a:1\n", "line 3: http://a:1: a replica is named twice"),
        ("http://named:1\n", "line 1: http://named:1: a replica is named twice"),
        ("# nothing\n\n", ": no URL in it"),
        ("", ": no URL in it"),
    ],
)
def test_a_bad_line_of_servers_is_named(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "servers.txt"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse("--server-url", "http://named:1", "--servers", str(file))
    assert str(caught.value).startswith(f"--servers {file}") and fault in str(caught.value)


def test_servers_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=f"--servers {path}: cannot be read"):
            parse("--servers", str(path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        parse("--servers", str(tmp_path / "binary"))


def test_warmup() -> None:
    assert (parse().warmup, parse("--warmup", "0").warmup, parse("--warmup", "9").warmup) == (
        2,
        0,
        9,
    )


def test_a_ladder_has_a_first_step_or_is_refused() -> None:
    assert [parse("--warmup-tokens", n).warmup_tokens for n in ("0", "32")] == [0, 32]
    assert ladder_prompts([np.arange(9, dtype=np.int32)], 32, 1)
    for few in ("1", "31"):
        with pytest.raises(
            ConfigError, match=rf"^--warmup-tokens {few}: .*0 \(off\) or at least 32"
        ):
            parse("--warmup-tokens", few)


def test_numbers_that_may_be_left_to_the_harness() -> None:
    assert (parse().num_workers, parse().drain_ms, parse().calibrate) == (None, None, False)
    config = parse("--num-workers", "auto", "--drain", "auto")
    assert (config.num_workers, config.drain_ms) == (None, None)
    assert parse("--num-workers", "3", "--calibrate").calibrate
    for text, drain_ms in (("off", 0.0), ("0", 0.0), ("1", 1.0), ("12.5", 12.5), ("1000", 1000.0)):
        assert parse("--drain", text).drain_ms == drain_ms


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--num-workers", "many"), "--num-workers: invalid number value: 'many'"),
        (("--drain", "on"), "--drain: invalid milliseconds value: 'on'"),
    ],
)
def test_what_is_no_number(
    flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(*flags)
    assert message in capsys.readouterr().err


def test_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    assert "--drain auto|off|MS" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        ("--server-url", "http://a:1,http://a:1"),
        ("--max-samples", "0"),
        ("--temperature", "-1"),
        ("--top-p", "0"),
        ("--top-k", "-2"),
        ("--between-tokens-timeout", "0"),
        ("--backend", "embedded", "--server-url", "http://a:1"),
        ("--num-workers", "0"),
        ("--warmup", "-1"),
        ("--warmup-tokens", "-1"),
        ("--drain", "0.5"),
        ("--drain", "1001"),
        ("--drain", "-1"),
        ("--drain", "nan"),
        ("--generation-config", "/does/not/exist"),
    ],
)
def test_bad_values_are_named(flags: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=flags[0]):
        parse(*flags)
