"""TERM as Slurm says it: to every process of a job at once, and twice. What was measured stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.outcome import Outcome
from engine.emulator import run_emulator
from results.records import read_parquet
from tests.competition import test_sweep as sweeps
from tests.engine.test_engine_process import COMMAND, wait_until_caught
from tests.harness import (
    ROOT,
    command_line,
    emulator,
    server_conf,
    unmarked,
    write_conf,
    write_dataset,
)

LIMIT_S = 60.0


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def session(of: int) -> list[int]:
    """Its processes that have not ended."""
    command = ["ps", "--no-headers", "-o", "pid,state", "-s", str(of)]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return [int(pid) for pid, state in map(str.split, lines) if state not in "ZX"]


def term_to_all(process: subprocess.Popen[str], pause: Callable[[], object]) -> tuple[str, str]:
    """Helpers first, for they must not notice; the outputs of what then has to end."""
    for _ in range(2):
        for pid in sorted(session(process.pid), reverse=True):
            os.kill(pid, signal.SIGTERM)
        pause()
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    wait_for(lambda: session(process.pid) == [])
    return out, err


@contextmanager
def start(command: list[str], folder: Path, **popen: Any) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **popen
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("together", [True, False], ids=["together", "while-saving"])
def test_a_server_run_is_saved(tmp_path: Path, together: bool) -> None:
    data = write_dataset(tmp_path / "d.parquet", n=800, length=40)
    conf = write_conf(tmp_path / "u.conf", *server_conf(qps=20, seconds=300))
    flags = ("--input-file", str(data), "--user-conf", str(conf), "--max-tokens", "64")
    folder = tmp_path / "output" / "server" / "performance"
    with emulator(
        "--dialect", "vllm", "--itl-ms", "50", "--osl", "20", "--vocab", "1000"
    ) as engine:
        command = command_line(
            "server",
            tmp_path / "output",
            *flags,
            "--server-url",
            engine.url,
            "--num-workers",
            "2",
        )
        with start(command, tmp_path) as process:

            def finished() -> object:
                assert process.poll() is None, process.communicate()
                return sum(entry["finish"] == "stop" for entry in engine.truth()) > 5

            def cancelled() -> bool:
                return any(entry["finish"] == "disconnected" for entry in engine.truth())

            wait_for(finished)
            # At once, or when the open queries have been cancelled.
            out, _ = term_to_all(
                process, (lambda: None) if together else lambda: wait_for(cancelled)
            )
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["verdict"] == json.loads(out.splitlines()[-1])["verdict"]
    assert unmarked(summary["verdict"]) == "INTERRUPTED"
    records = read_parquet(folder / "queries.parquet")
    outcomes = Counter(Outcome(number).name for number in records["outcome"])
    assert len(records) == summary["issued"]
    assert outcomes["OK"] > 5 and outcomes["CANCELLED"] > 0
    assert set(outcomes) == {"OK", "CANCELLED"}, "a helper did not live to the end"


def test_a_sweep_is_saved(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with run_emulator("--served-name", "m", *sweeps.SLOW) as engine:
        argv = ("--server-url", engine.urls[0], "--lengths", "64/4,64/9000", "--conc", "1")
        command = sweeps.command("--output", folder, *argv, *sweeps.SMALL)
        with start(command, tmp_path, env=sweeps.environment()) as process:
            sweeps.wait_for(folder / "result_isl64_osl4_conc1.json", process)
            wait_for(lambda: any(entry["finish"] is None for entry in engine.truth()))
            out, err = term_to_all(process, lambda: None)
    assert f"to go on: sweep --resume {folder}" in err
    assert [row[:2] for row in sweeps.rows(out)] == [["64", "4"]]
    assert len(sweeps.read(folder / "sweep.json")["results"]) >= 1


def test_a_runs_own_model_goes_on_until_the_run_ends_it() -> None:
    command, pipe = [*COMMAND, "model", "--until-stdin-closes"], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdin and process.stdout
        wait_until_caught(process.pid, signal.SIGTERM)
        process.terminate()
        assert b"ready" in process.stdout.readline()
        process.terminate()
        process.stdin.close()
        assert process.wait(LIMIT_S) == 0


TWICE = """
import os, signal, sys
from client.signals import interrupt_once
interrupt_once(signal.SIGTERM)
try:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(130)
"""


def test_only_the_first_interrupts() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
