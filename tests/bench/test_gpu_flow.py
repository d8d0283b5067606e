"""`python -m bench.gpu`: what is asked, which steps run where, what is kept when one fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import steps
from bench.gpu.__main__ import main
from bench.gpu.options import STEPS, parse_options
from bench.gpu.report import write_report
from bench.gpu.shape import CONFIG, VOCABULARY, write_shape
from tests.harness import ROOT, emulator


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """`main` sets TERM's, for a process that is its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_by_default_all_steps_that_one_gpu_allows() -> None:
    lacking = ("replicas", "perplexity")
    assert parse_options([]).steps == tuple(step for step in STEPS if step not in lacking)
    assert parse_options(["--gpus", "0,1", "--text", "x"]).steps == STEPS
    served = parse_options(["--server-url", "http://127.0.0.1:1"]).steps
    assert served == ("sweep", "clients", "server", "interactive")
    asked = parse_options(["--steps", "server,turns", "--", "--max-num-seqs=8"])
    assert (asked.steps, asked.engine_flags) == (("turns", "server"), ("--max-num-seqs=8",))


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ("--steps turn", "turn: no such step"),
        ("--steps replicas", "two GPUs"),
        ("--gpus 0,0", "twice"),
        ("--steps perplexity", "needs a text"),
        ("--gpus ,", "empty"),
        ("--server-url http://127.0.0.1:1 --steps turns", "leave turns"),
    ],
)
def test_wrong_flags(flags: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(flags.split())
    assert caught.value.code == 2 and word in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["--output", str(tmp_path / "file" / "x")]) == 3
    assert "choose another" in capsys.readouterr().err


def test_the_shape_is_the_published_one(tmp_path: Path) -> None:
    folder = write_shape(tmp_path / "shape")
    config = json.loads((folder / "config.json").read_text())
    assert config == CONFIG and config["vocab_size"] == VOCABULARY
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [0, 7, 199_999, VOCABULARY - 1]
    assert tokenizer.encode(tokenizer.decode(ids)).ids == ids


def test_steps_on_a_server_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real search and a step that fails: the first is kept, and the end tells of the second."""
    monkeypatch.setattr(steps, "PROFILE", "no-such-profile")
    (tmp_path / "out").mkdir()
    for old in ("machine", "perplexity"):  # an earlier run's
        (tmp_path / "out" / f"{old}.json").write_text("{}")
    with emulator("--dialect", "vllm", "--ttft-ms", "5", "--itl-ms", "1") as engine:
        flags = ["--server-url", engine.url, "--steps", "server,sweep", "--qps", "20"]
        flags += ["--isl", "16", "--osl", "8", "--seconds", "1", "--searches", "2"]
        code = main([*flags, "--warmup", "4", "--output", str(tmp_path / "out")])
    shown, told = capsys.readouterr()
    assert code == 1 and "failed: sweep" in told
    assert "## Server: the highest rate" in shown and "FAILED: RunError" in shown
    kept = json.loads((tmp_path / "out" / "server.json").read_text())
    assert kept["result"]["best_qps"] == 30 and kept["result"]["osl"] == 4
    assert "no-such-profile" in (tmp_path / "out" / "sweep.txt").read_text()
    assert (tmp_path / "out" / "server.png").stat().st_size > 10_000
    everything = json.loads((tmp_path / "out" / "measurements.json").read_text())
    assert set(everything) == {"machine", "warmup", "server", "sweep"}
    assert "_sweep" in everything["sweep"]["traceback"]
    assert len(list(tmp_path.glob("out-until-*/perplexity.json"))) == 1


@pytest.mark.parametrize("step", ["server", "clients"])
def test_term_ends_a_step_that_runs_and_keeps_what_was_measured(tmp_path: Path, step: str) -> None:
    """It is said to the first process alone, as by `kill`."""
    shape = write_shape(tmp_path / "shape")
    with emulator("--dialect", "vllm", "--ttft-ms", "5", "--itl-ms", "1") as engine:
        flags = ["--server-url", engine.url, "--steps", f"{step},interactive", "--isl", "16"]
        flags += ["--osl", "8", "--qps", "20", "--seconds", "300", "--warmup-tokens", "32"]
        flags += ["--model_path", str(shape)]
        command = [sys.executable, "-m", "bench.gpu", *flags, "--output", str(tmp_path / "out")]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            for line in process.stderr:
                if f"{step}: begins" in line:
                    break
            process.terminate()
            told = process.stderr.read()
            assert process.wait(60) == 130
    assert "interrupted; what was measured is in" in told and "interactive: begins" not in told
    assert (tmp_path / "out" / "warmup.json").exists()


def test_each_run_has_what_was_compiled_while_it_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "replica.log"
    log.write_text("Kernel JIT monitor activated\n")
    noon = time.mktime((time.localtime().tm_year, 11, 22, 12, 0, 0, 0, 0, -1))

    def step(bench: steps.Bench, target: steps.Target) -> steps.Found:
        with log.open("a") as file:
            file.write("WARNING 11-22 12:00:20 Triton kernel JIT compilation during inference: k\n")
        started = datetime.fromtimestamp(noon + 30, UTC).isoformat(timespec="seconds")
        return {
            "runs": [{"began_s": noon + n, "ended_s": noon + n + 9.5} for n in (0, 10, 20)],
            "results": [{"date": started, "duration": 9.0}],
        }

    monkeypatch.setitem(steps.STEPS, "sweep", (step, lambda result: str(len(result["runs"]))))
    bench = steps.Bench(parse_options([]), tmp_path, lambda text: None)
    found = steps.run_step("sweep", bench, steps.Target(("u",), (0,), (log,)))
    assert [run["compiles"] for run in found["result"]["runs"]] == [0, 0, 1]
    assert found["result"]["results"][0]["compiles"] == 0
    assert (len(found["compiles"]), found["watched"], found["table"]) == (1, [True], "3")


def test_the_report_says_what_was_compiled_only_where_it_was_watched(tmp_path: Path) -> None:
    found: dict[str, Any] = {"step": "perplexity", "seconds": 3.0, "table": "| a |", "compiles": []}
    for watched, words in (([True], "0 kernels compiled"), ([False], "(3 s)"), ([], "(3 s)")):
        (tmp_path / "perplexity.json").write_text(json.dumps(found | {"watched": watched}))
        assert words in write_report(tmp_path)
