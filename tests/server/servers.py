"""run_server.sh as a real process, with the fake engine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import ROOT

FAKE = Path(__file__).with_name("fake_engine.py")
LIMIT_S = 60.0


@dataclass
class Server:
    process: subprocess.Popen[str]
    folder: Path
    port: int

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def servers_file(self) -> Path:
        return self.folder / "logs" / "servers.txt"

    def log(self, index: int) -> str:
        return (self.folder / "logs" / f"replica-{index}.log").read_text()

    def urls(self) -> str:
        """The line that comes when all are ready."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self, *signals: signal.Signals) -> int:
        """Exit code; sends the signals first."""
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(LIMIT_S)

    def left(self) -> list[int]:
        """Replicas' processes that live: each carries the test's folder in its command line."""
        return [pid for pid in _processes(str(self.folder / "model")) if pid != self.process.pid]


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


@contextmanager
def server(folder: Path, mode: str, *flags: str, engine: str = "vllm") -> Iterator[Server]:
    """mode: of the fake engine."""
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    python.chmod(0o755)
    model = ("--model_path", str(folder / "model" / mode))
    own = ("--python", str(python), "--engine", engine, "--platform", "cpu", *model)
    with launched(folder, *own, *flags) as found:
        yield found


@contextmanager
def launched(folder: Path, *flags: str) -> Iterator[Server]:
    """run_server.sh; an engine's command line should carry folder/model."""
    port = free_ports()
    command = [str(ROOT / "run_server.sh"), "--port", str(port), "--log-dir", "logs", *flags]
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True, env=environ()
        )
        with process:
            try:
                yield Server(process, folder, port)
            finally:
                process.terminate()


def environ() -> dict[str, str]:
    """The test's own interpreter is the python3 that run_server.sh finds."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def stopped_at_once(script: str, said: str, count: int = 20) -> None:
    """So many Python programs that say they are ready get TERM twice in a row; none may hang."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdout and process.stdout.readline() == "ready\n"
        for process in started:
            os.kill(process.pid, signal.SIGTERM)
            os.kill(process.pid, signal.SIGTERM)
        for process in started:
            out, _ = process.communicate(timeout=LIMIT_S)
            assert (process.returncode, out) == (0, f"{said}\n")
    finally:
        for process in started:
            process.kill()
            process.communicate()


def free_ports(count: int = 2) -> int:
    """The first, an even one, of so many in a row that can be listened on."""
    for first in range(23000 + os.getpid() % 1000 * 8, 60000, 2):
        if all(_free(first + n) for n in range(count)):
            return first
    raise RuntimeError("no free ports")


def _free(port: int) -> bool:
    """Also of connections that an earlier test's server closed, which hold a port for a minute."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _processes(word: str) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in file.read_bytes().decode("utf-8", "replace"):
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found
