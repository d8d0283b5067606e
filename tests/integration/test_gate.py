"""The gate over a model that can answer: it passes, and with noise on its weights it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT, emulator, run_mlperf, unmarked

CHECKPOINT = ROOT / "engine" / "checkpoint"
NOISE = "0.6"  # of each weight's spread; the score falls from 100 to about 30


@pytest.fixture(scope="module")
def noised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("noise") / "checkpoint"
    command = [sys.executable, "-m", "engine.noise", str(CHECKPOINT), str(target), "--scale", NOISE]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return target


def test_a_model_that_answers_passes_and_its_performance_is_gated(tmp_path: Path) -> None:
    run = run_mlperf("offline", tmp_path, "--backend", "embedded", "--gate")
    assert run.code == 0, run.stdout + run.stderr
    summary = run.summary
    assert unmarked(summary["verdict"]) == "DEMONSTRATION"
    assert summary["gate"]["value"] > 90
    assert "gate        passed: exact_match" in run.stdout
    accuracy = run.folder.parent / "accuracy"
    scored = json.loads((accuracy / "summary.json").read_text())
    assert scored["check"] == summary["gate"]
    assert (accuracy / "accuracy.txt").read_text().splitlines()[-1].startswith("'exact_match': ")
    assert (accuracy / "samples.parquet").exists()


def test_a_spoilt_model_fails_and_no_performance_log_is_emitted(
    tmp_path: Path, noised: Path
) -> None:
    with emulator("--dialect", "vllm", "--model", str(noised), kind="model") as engine:
        run = run_mlperf("offline", tmp_path, "--gate", "--server-url", engine.url)
    assert run.code == 1, run.stdout + run.stderr
    assert "the gate did not pass: the performance run was not started" in run.stderr
    assert unmarked(run.last_line["verdict"]) == "INVALID" and run.last_line["mode"] == "accuracy"
    assert run.last_line["check"]["value"] < run.last_line["check"]["minimum"]
    assert not run.folder.exists()


def test_without_gate_the_card_says_so(tmp_path: Path) -> None:
    with emulator("--dialect", "vllm", "--osl", "4") as engine:
        run = run_mlperf("offline", tmp_path, "--server-url", engine.url)
    assert run.code == 0
    assert "gate        none: the answers behind this number were not scored" in run.stdout
    assert run.summary["gate"] is None


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--gate", "--accuracy"), "--gate is for performance runs"),
        (("--gate", "--input-file", "x.parquet"), "--gate needs the accuracy dataset"),
        (("--accuracy", "--compliance", "TEST07"), "choose one"),
    ],
)
def test_combinations_that_make_no_sense(tmp_path: Path, flags: tuple[str, ...], says: str) -> None:
    run = run_mlperf("offline", tmp_path, *flags)
    assert run.code == 2 and says in run.stderr
