"""`python -m bench.gpu`: what is asked, which steps run where, what is kept when one fails."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest

from bench.gpu import commands
from bench.gpu.__main__ import main
from bench.gpu.options import STEPS, parse_options
from bench.gpu.report import draw_plots, write_report
from bench.gpu.report import main as report
from bench.gpu.shape import CONFIG, VOCABULARY, write_shape
from bench.gpu.steps import measured
from tests.bench.test_gpu_turns import replica
from tests.harness import ROOT, emulator
from tests.server.servers import FAKE as FAKE_ENGINE
from tests.server.servers import environ, free_ports

pytestmark = pytest.mark.usefixtures("handlers")  # `main` sets some, for a process of its own
LIMIT_S = 90.0


def test_by_default_all_steps_that_one_gpu_allows() -> None:
    lacking = ("exchanged", "replicas", "perplexity")
    assert parse_options([]).steps == tuple(step for step in STEPS if step not in lacking)
    assert parse_options(["--gpus", "0,1", "--text", __file__]).steps == STEPS
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
        ("--warmup-tokens 31", "at least 32"),
        ("--rounds 0", "0: must be at least 1"),
        ("--osl 1", "1: must be at least 2"),
        ("--qps 0", "0: must be above 0"),
        ("--queries many", "invalid number value: 'many'"),
        ("--text /nowhere/text", "no such file"),
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
    monkeypatch.setattr(commands, "PROFILE", "no-such-profile")
    (tmp_path / "out").mkdir()
    for old in ("machine", "perplexity"):  # an earlier run's
        (tmp_path / "out" / f"{old}.json").write_text("{}")
    with emulator("--dialect", "vllm", "--ttft-ms", "5", "--itl-ms", "1") as engine:
        flags = ["--server-url", engine.url, "--steps", "server,sweep", "--qps", "20"]
        flags += ["--isl", "16", "--osl", "8", "--seconds", "1", "--searches", "1"]
        flags += ["--warmup", "4", "--warmup-tokens", "32"]
        code = main([*flags, "--output", str(tmp_path / "out")])
    shown, told = capsys.readouterr()
    assert code == 1 and "failed: sweep" in told
    assert "## Server: the highest rate" in shown and "FAILED: RunError" in shown
    kept = json.loads((tmp_path / "out" / "server.json").read_text())
    [trial] = kept["result"]["trials"]
    assert (trial["qps"], trial["failure"], kept["result"]["osl"]) == (20, None, 4)
    assert "no-such-profile" in (tmp_path / "out" / "sweep.txt").read_text()
    assert (tmp_path / "out" / "server.png").stat().st_size > 10_000
    everything = json.loads((tmp_path / "out" / "measurements.json").read_text())
    assert set(everything) == {"machine", "warmup", "server", "sweep"}
    assert "_sweep" in everything["sweep"]["traceback"]
    assert len(list(tmp_path.glob("out-until-*/perplexity.json"))) == 1


@pytest.mark.parametrize("step", ["server", "clients"])
def test_term_ends_a_step_that_runs_and_keeps_what_was_measured(tmp_path: Path, step: str) -> None:
    """It is said to the first process alone, as by `kill`."""
    with emulator("--dialect", "vllm", "--ttft-ms", "5", "--itl-ms", "1") as engine:
        flags = ["--server-url", engine.url, "--steps", f"{step},interactive"]
        with begun(f"{step}: begins", tmp_path, *flags, "--seconds", "300") as process:
            process.terminate()
            told = ended(process)
    assert "interrupted; to see what was measured" in told and "interactive: begins" not in told
    kept = json.loads((tmp_path / "out" / f"{step}.json").read_text())
    assert kept["error"] == "interrupted" and not list(measured(kept["result"]))


def test_ctrl_c_twice_keeps_a_search_until_then(tmp_path: Path) -> None:
    """The rate at which it came is no failure, and no further one is tried."""
    with emulator("--dialect", "vllm", "--ttft-ms", "5", "--itl-ms", "1") as engine:
        flags = ["--server-url", engine.url, "--steps", "server"]
        with begun("server: 20.00 QPS", tmp_path, *flags, "--seconds", "3") as process:
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                time.sleep(0.2)  # like a hand's
            told = ended(process)
    assert "interrupted; to see what was measured" in told
    kept = json.loads((tmp_path / "out" / "server.json").read_text())
    result = kept["result"]
    [trial] = result["trials"]
    assert kept["error"] == "interrupted" and (trial["qps"], trial["failure"]) == (20, None)
    found = (20, None) if trial["passed"] else (None, 20)  # it may be late on a busy machine
    assert (result["best_qps"], result["lowest_failing_qps"]) == found
    tables = write_report(tmp_path / "out")
    assert "FAILED: interrupted" in tables and "| 20.00 |" in tables
    draw_plots(tmp_path / "out")


def test_what_the_docs_show_can_be_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        report([str(tmp_path)])
    assert "no step of bench.gpu" in capsys.readouterr().err
    docs = ROOT / "docs"
    shown = set(re.findall(r"\(([\w/-]+\.png)\)", (docs / "measurements.md").read_text()))
    assert shown == {str(file.relative_to(docs)) for file in docs.glob("measurements/**/*.png")}
    drawn = {"turns", "server", "interactive"}
    assert drawn <= {Path(file).stem for file in shown}
    steps: set[str] = set()
    for folder in ("measurements", "measurements/graphs-512"):
        here = tmp_path / folder.replace("/", "-")
        here.mkdir()
        for file in (docs / folder).glob("*.json"):
            shutil.copy(file, here)
        report([str(here)])
        found = {step for step in STEPS if (here / f"{step}.json").exists()}
        assert capsys.readouterr().out.count("\n## ") + 1 == len(found)
        steps |= found
        for name in found & drawn:
            assert (here / f"{name}.png").stat().st_size > 10_000
    assert steps == {*STEPS}


def test_a_visit_to_two_gpus(tmp_path: Path) -> None:
    """run_server.sh starts what behaves as a vLLM for CUDA, and the same has an LLM in a process."""
    names, seen = ("turns", "exchanged", "replicas", "server"), tmp_path / "seen"
    flags = ["--platform", "cuda", "--gpus", "5,3", "--steps", ",".join(names), "--queries", "20"]
    flags += ["--rounds", "1", "--seconds", "1", "--searches", "1", "--warmup", "4"]
    flags += ["--python", str(write_engine(tmp_path, seen)), "--isl", "16", "--osl", "8"]
    flags += ["--warmup-tokens", "32", "--qps", "20", "--output", str(tmp_path / "out")]
    flags += ["--port", str(free_ports())]
    model = write_shape(tmp_path / "ok")  # so it behaves
    path = f"{tmp_path}:{environ()['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", *flags, "--model_path", str(model)],
        cwd=ROOT, env=environ() | {"PATH": path}, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kept = {step: json.loads((tmp_path / "out" / f"{step}.json").read_text()) for step in names}
    assert [kept[step]["result"]["gpus"] for step in names[:2]] == [[5, 3], [3, 5]]
    assert [kept[step]["gpus"] for step in names[2:]] == [[5, 3], [5]]
    # The servers of all steps, then those of turns and exchanged, each before the engine beside it.
    starts = [line.split() for line in seen.read_text().splitlines()]
    order = [" ".join(words) for words in starts]
    assert sorted(order[:2]) == ["3 served", "5 served"]
    assert (sorted(order[2:4]), sorted(order[4:])) == (
        ["3 own", "5 served"],
        ["3 served", "5 own"],
    )
    assert (
        "Over both ways round" in done.stdout and "ours on GPU 3, the engine's own" in done.stdout
    )
    assert (tmp_path / "out" / "turns.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "out" / "start.json").read_text())["ready_s"] > 0


def write_engine(folder: Path, seen: Path) -> Path:
    """An engine's interpreter, which notes each start and its GPU in `seen`; beside an nvidia-smi."""
    own = replica(folder / "fake", "ok").environment  # with which the fake vLLM is found
    python = folder / "engine-python"  # run_server.sh takes none of this name for itself
    python.write_text(
        f"""#!/bin/bash
        case "$*" in
            *bench/gpu/own.py*) what=own ;;
            "-m vllm."*) what=served ;;
            *) exec "{sys.executable}" "{FAKE_ENGINE}" "$@" ;;
        esac
        echo "$CUDA_VISIBLE_DEVICES $what" >>"{seen}"
        [[ $what == own ]] || exec "{sys.executable}" "{FAKE_ENGINE}" "$@"
        {" ".join(f"{name}='{value}'" for name, value in own)} exec "{sys.executable}" "$@"
        """
    )
    smi = folder / "nvidia-smi"
    smi.write_text("#!/bin/sh\nfor n in 0 1 2 3 4 5; do echo NVIDIA H200; done\n")
    for script in (python, smi):
        script.chmod(0o755)
    return python


@contextmanager
def begun(until: str, folder: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """The bench, once it has said that."""
    small = ["--isl", "16", "--osl", "8", "--qps", "20", "--warmup-tokens", "32"]
    small += ["--model_path", str(write_shape(folder / "shape")), "--output", str(folder / "out")]
    command = [sys.executable, "-m", "bench.gpu", *flags, *small]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        guard = Timer(LIMIT_S, process.kill)  # one that hangs would be waited for without end
        guard.start()
        try:
            assert any(until in line for line in process.stderr)
            yield process
        finally:
            guard.cancel()
            process.kill()


def ended(process: subprocess.Popen[str]) -> str:
    """What it said last."""
    assert process.stderr
    told = process.stderr.read()
    assert process.wait() == 130
    return told
