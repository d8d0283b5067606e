"""Replicas of a real engine: started by run_server.sh as a user would, and killed as no user would."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.process import members
from tests.harness import ROOT
from tests.server.servers import free_ports
from tests.vllm_cpu import engine_environment

CHECKPOINT = ROOT / "engine" / "checkpoint"
START_LIMIT_S = 420
STOP_LIMIT_S = 60.0


@dataclass(frozen=True)
class Replicas:
    """Servers that answer. `sessions`: of each replica's processes; none for servers of others."""

    urls: tuple[str, ...]
    sessions: tuple[int, ...] = ()

    def kill(self, index: int) -> None:
        """As when a machine is lost: no process of the replica can say goodbye."""
        for pid in members(self.sessions[index]):
            os.kill(pid, signal.SIGKILL)

    def kill_engine(self, index: int) -> None:
        """As when a GPU is lost: the HTTP server lives and says what it can."""
        for pid in members(self.sessions[index]):
            if pid != self.sessions[index]:
                os.kill(pid, signal.SIGKILL)


@contextmanager
def run_server(
    engine: str, python: Path, folder: Path, *flags: str, **environment: str
) -> Iterator[Replicas]:
    """Two replicas of the trained checkpoint. `flags`: run_server.sh's, and after -- the engine's."""
    env = engine_environment() | environment
    port, log = free_ports(), folder / "run_server.log"
    command = [
        *(str(ROOT / "run_server.sh"), "--engine", engine, "--dp", "2"),
        *("--model_path", str(CHECKPOINT), "--port", str(port), "--python", str(python)),
        *("--log-dir", str(folder), "--servers-file", str(folder / "servers.txt")),
        *("--timeout", str(START_LIMIT_S), *flags),
    ]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env
        ) as process,
    ):
        try:
            assert process.stdout
            urls = process.stdout.readline().strip()
            assert urls, f"{engine} did not start:\n{log.read_text()[-8000:]}"
            sessions = tuple(_listener(process.pid, port + n) for n in range(2))
            yield Replicas(tuple(urls.split(",")), sessions)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_LIMIT_S)
    left = [pid for session in sessions for pid in members(session)]
    assert not left, f"run_server.sh has left processes behind: {left}"


def _listener(parent: int, port: int) -> int:
    """The replica's first process: a child of run_server.sh with that port on its command line."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            words = stat.with_name("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(fields[1]) == parent and f"--port={port}".encode() in words:
            return int(stat.parent.name)
    raise AssertionError(f"no child of {parent} has --port={port}")
