"""The process: how it starts, what it prints, and that it never outlives its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.client import ROOT, clock

COMMAND = [sys.executable, "-m", "engine"]


def test_stdout_is_one_line_and_the_end_of_stdin_ends_it() -> None:
    with clock("--ttft-ms", "60000") as engine, engine.start_asking("vllm", [1], 2) as connection:
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert engine.ready["card"]["context"] == 131_072
        assert engine.ready["dialects"] == ["vllm", "sglang"]
        assert engine.process.stdin and engine.process.stdout
        began = time.monotonic()
        engine.process.stdin.close()
        assert engine.process.wait(10) == 0
        assert time.monotonic() - began < 3
        assert engine.process.stdout.read() == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["clock", "model"])
def test_signals_end_it_with_zero(number: signal.Signals, kind: str) -> None:
    """The model's process gets the signal while it is still loading."""
    if kind == "clock":
        with clock() as engine:
            engine.process.send_signal(number)
            assert engine.process.wait(10) == 0
        return
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, kind], cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        wait_until_caught(process.pid, signal.SIGTERM)
        process.send_signal(number)
        assert process.wait(10) == 0


def wait_until_caught(pid: int, number: signal.Signals) -> None:
    """Until the process has a handler of its own for the signal."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:") and int(line.split()[1], 16) >> (number - 1) & 1:
                return
        time.sleep(0.01)
    pytest.fail(f"no handler for {number.name} within 30 s")


def test_the_end_of_stdin_ends_it_while_the_model_loads() -> None:
    began = time.monotonic()
    command = [*COMMAND, "model", "--until-stdin-closes"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "flags",
    ["clock --fault typo", "clock --chunk 0", "clock --dialect x", "model --model no/where"],
)
def test_wrong_flags(flags: str) -> None:
    command = [*COMMAND, *flags.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert flags.split()[1] in done.stderr


def test_a_port_in_use() -> None:
    with clock() as engine:
        port = engine.ready["ready"].rsplit(":", 1)[1]
        command = [*COMMAND, "clock", "--port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert "address already in use" in done.stderr


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there(device: str) -> None:
    command = [*COMMAND, "model", "--device", device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"--device {device}: " in done.stderr


OLDER = """
import transformers
from engine.__main__ import main

def older(self, **settings):
    raise TypeError("an unexpected keyword argument 'page_size'")

transformers.ContinuousBatchingConfig.__init__ = older
main(["model"])
"""


def test_another_release_of_transformers() -> None:
    """The settings of its continuous batching have changed from release to release."""
    pytest.importorskip("transformers")
    command = [sys.executable, "-c", OLDER]
    quiet = subprocess.DEVNULL
    done = subprocess.run(
        command, cwd=ROOT, stdin=quiet, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "'page_size'" in done.stderr and "requirements/embedded.txt" in done.stderr
