"""One point on a real (emulated) engine: what makes it count, and what does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from backends.engines import probe
from competition.document import build_document, caveats
from competition.gate import GateResult
from competition.point import Measured, check_fit, measure_point
from competition.profile import Lengths, load_profile
from competition.settings import Settings, read_settings
from core.config import Sampling
from core.errors import ConfigError, RunError
from engine.emulator import run_emulator
from results.folder import RunFolder
from results.records import read_parquet
from tests.competition import scene
from tests.competition.scene import MODEL, port_of, shell, wait_for, wikitext
from tests.harness import ROOT

PROFILE = load_profile("gptoss-fp4-vllm-mi355x")
GATE = GateResult("perplexity", True, {"bits_per_byte": 1.0}, (), (), 1.0, {"whole": True})
SAID: Callable[[str], None] = lambda _: None  # noqa: E731


server = partial(scene.server, chunk=2, itl_ms=2)


def settings(url: str, tmp_path: Path, conc: int = 4, **more: str) -> Settings:
    environ = {"MODEL": MODEL, "ISL": "64", "OSL": "32", "CONC": str(conc)} | more
    environ.setdefault("RESULT_FILENAME", str(tmp_path / "result"))
    return read_settings(PROFILE, environ, (url,), batch=False)


def measure(url: str, tmp_path: Path, **more: str) -> Measured:
    return measure_point(settings(url, tmp_path, **more), probe((url,), "auto"), SAID)


def test_a_good_point(tmp_path: Path) -> None:
    with run_emulator("--served-name", MODEL, "--itl-ms", "2", "--dialect", "vllm") as emulator:
        url = emulator.urls[0]
        found = measure(url, tmp_path, RANDOM_RANGE_RATIO="0.5")
        document = build_document(settings(url, tmp_path), probe((url,), "auto"), GATE, found)
        truth = emulator.truth()
    assert found.reasons == () and document["verdict"] == "PASSED"
    assert len(truth) == 8 + 40  # warm-ups, then the measured ones
    assert len({entry["prompt_sum"] for entry in truth}) == 48
    records = read_parquet(tmp_path / "result" / "queries.parquet")
    assert sorted(records["n_tokens"]) == sorted(entry["n_tokens"] for entry in truth[8:])
    assert 16 <= records["n_tokens"].min() < records["n_tokens"].max() <= 32
    assert json.loads(json.dumps(document, allow_nan=False))["conc"] == 4
    manifest = json.loads((tmp_path / "result" / "manifest.json").read_text())
    assert manifest["config"]["seed"] == [0, 64, 32, 4]


def test_sglang_too(tmp_path: Path) -> None:
    with run_emulator("--served-name", MODEL, "--dialect", "sglang", "--itl-ms", "2") as emulator:
        assert measure(emulator.urls[0], tmp_path).reasons == ()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("error_event:after=20:times=1", "1 requests failed: engine_error"),
        ("http_500:after=20:times=2", "2 requests failed: http_error"),
        ("out_of_context:after=20:times=1", "1 requests failed: truncated"),
    ],
)
def test_one_failed_request_is_enough(tmp_path: Path, fault: str, reason: str) -> None:
    with server("--fault", fault) as engine:
        found = measure(engine.url, tmp_path)
        document = build_document(
            settings(engine.url, tmp_path), probe((engine.url,), "auto"), GATE, found
        )
    assert reason in found.reasons[0] and document["verdict"] == "FAILED"
    assert document["failed_requests"] + document["completed"] == 40


def test_answers_that_end_early_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that does not obey ignore_eos does less work than it is credited with."""
    monkeypatch.setattr("competition.closed_loop.greedy", lambda n: Sampling(n, 0.0))
    with server("--osl", "10") as engine:
        found = measure(engine.url, tmp_path)
    assert found.reasons == (
        "40 answers are not as long as asked for: the engine does not obey ignore_eos",
    )


def test_a_failing_warm_up_ends_it_before_anything_is_measured(tmp_path: Path) -> None:
    with server("--fault", "http_500:times=1") as engine:
        with pytest.raises(RunError, match="warm-up request failed"):
            measure(engine.url, tmp_path)
        assert len(engine.truth()) == 8


def test_a_cache_that_can_be_emptied_is_emptied(tmp_path: Path) -> None:
    with server("--prefix-cache", "--dev-mode") as engine:
        for _ in range(2):
            found = measure(engine.url, tmp_path)
            assert found.reasons == () and found.seed == (0, 64, 32, 4)


def test_a_cache_that_cannot_gets_prompts_that_it_has_not_seen(tmp_path: Path) -> None:
    with server("--prefix-cache") as engine:
        found = measure(engine.url, tmp_path)
    assert len(found.seed) == 5 and found.reasons == ()
    assert any("may hold prompts of an earlier run" in text for text in found.warnings)


def test_cached_prompts_make_a_point_that_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("competition.point._seed", lambda *_: (0, 1))
    with server("--prefix-cache") as engine:
        measure(engine.url, tmp_path)
        found = measure(engine.url, tmp_path)
    assert "of the prompt tokens came from the prefix cache" in found.reasons[-1]
    assert "--no-enable-prefix-caching" in found.reasons[-1]


def test_an_earlier_result_is_kept(tmp_path: Path) -> None:
    with server() as engine:
        measure(engine.url, tmp_path)
        measure(engine.url, tmp_path)
    assert len(list(tmp_path.glob("result*/queries.parquet"))) == 2


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    text = wikitext(tmp_path / "wiki.txt")
    with server("--ttft-ms", "300") as engine:
        window = shell(tmp_path, text, PORT=port_of(engine.url), MODEL=MODEL, ISL="64", OSL="32")
        window.environ |= {"CONC": "2", "PYTHONPATH": str(ROOT)}
        process = window.start(f"exec {sys.executable} -m competition perf")
        records = tmp_path / "result" / "queries.bin"
        wait_for(records)
        while records.exists() and not records.stat().st_size:
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130, said
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["verdict"] == "FAILED" and found["reasons"][0] == "interrupted"
    assert 0 < found["completed"] < 20
    assert len(read_parquet(tmp_path / "result" / "queries.parquet")) == 20


def test_no_worker_is_left_when_the_command_is_killed(tmp_path: Path) -> None:
    text = wikitext(tmp_path / "wiki.txt")
    with server("--ttft-ms", "300") as engine:
        window = shell(tmp_path, text, PORT=port_of(engine.url), MODEL=MODEL, ISL="64", OSL="32")
        window.environ |= {"CONC": "2", "PYTHONPATH": str(ROOT)}
        process = window.start(f"exec {sys.executable} -m competition perf")
        wait_for(tmp_path / "result" / "queries.bin")
        process.kill()
        process.communicate()
        # In its own session were only itself, its workers and the sampler.
        command = ["ps", "--no-headers", "-o", "pid", "-s", str(process.pid)]
        while subprocess.run(command, capture_output=True).stdout.strip():
            pass  # they notice that their pipe has closed; the test's own limit ends this


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_model_len": 90}, "needs a context of 96 tokens, MAX_MODEL_LEN is 90"),
        ({"model": "somebody/else"}, "serves openai/gpt-oss-120b"),
        ({"lengths": Lengths(130_000, 8192), "max_model_len": 1 << 20}, "the server's is 131072"),
    ],
)
def test_what_does_not_fit_is_said_before(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    with run_emulator("--served-name", MODEL, "--dialect", "vllm") as emulator:
        url = emulator.urls[0]
        chosen = replace(settings(url, tmp_path), **change)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=said):
            check_fit(chosen, probe((url,), "auto"))


def test_caveats_tell_of_the_ratio_and_of_gpus(tmp_path: Path) -> None:
    chosen = settings("http://a:1", tmp_path, ISL="1024", OSL="1024", TP="4")
    ratio, gpus = caveats(chosen)
    assert "0.8" in ratio and "0.9 of the stated ones" in ratio
    assert "divides by 8" in gpus and "4 were used" in gpus
    assert caveats(replace(chosen, range_ratio=0.8, tp=8)) == []
    assert caveats(replace(chosen, range_ratio=0.8, tp=16)) == []  # divided by all 16
    (missing,) = caveats(replace(chosen, concurrency=16, tp=8))
    assert "null" in missing


def test_a_full_disk_is_an_error_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RunFolder, records: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "store", full)
    with server() as engine, pytest.raises(RunError, match="No space left on device"):
        measure(engine.url, tmp_path)
