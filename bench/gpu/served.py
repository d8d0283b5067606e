"""The engine behind HTTP: run_server.sh as a user starts it, and how long each step of that took."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.gpu.compiles import lines_of
from bench.gpu.inproc import KILL_S, gone, kill
from bench.gpu.ours import ROOT
from bench.gpu.together import deferred
from bench.processes import process_tree
from core.errors import RunError, SetupError
from server import installed, machine, plan
from server.options import ENGINES, parse_args
from server.plan import Replica
from server.process import members

GRACE_S = 60.0  # between TERM and KILL: run_server.sh itself gives its replicas 20
TAIL_CHARS = 4_000
PHASES = {  # seconds, as vLLM 0.26 to 0.32 words them
    "weights": r"Loading weights took ([\d.]+) seconds",
    "model": r"Model loading took .* ([\d.]+) seconds",  # weights included
    "dynamo": r"Dynamo bytecode transform time: ([\d.]+) s",
    "compile": r"torch\.compile (?:and initial profiling/warmup run together )?took ([\d.]+) s in total",
    "profile": r"Initial profiling/warmup run took ([\d.]+) s",
    "graphs": r"\bGraph capturing finished in ([\d.]+) secs",
    "engine": r"init engine \(profile, create kv cache, warmup model\) took ([\d.]+) s",  # after "model"
}


@dataclass(frozen=True, slots=True)
class Server:
    """Replicas that answer."""

    urls: tuple[str, ...]
    ready_s: float  # from the command to the list of URLs
    logs: tuple[Path, ...]  # of replicas, in the order of the URLs
    phases: tuple[dict[str, float], ...]  # of each log, in seconds


class Starting:
    """run_server.sh, started; `ready` waits for it. To be used by `serve`."""

    def __init__(
        self,
        flags: Sequence[str],
        engine_flags: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self.command = [str(ROOT / "run_server.sh"), *words(flags, engine_flags, folder)]
        self._said = folder / "run_server.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._began_s = time.time()
        with self._said.open("w") as stderr:
            self._process = subprocess.Popen(
                self.command,
                env={**environ, "PYTHONUNBUFFERED": "1"},  # what is printed is in the log at once
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,  # Ctrl-C of the terminal reaches us alone
            )

    @cached_property
    def ready(self) -> Server:
        """Waits for all replicas, as long as run_server.sh's --timeout. Raises SetupError."""
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        if not line:
            raise SetupError(
                f"run_server.sh started nothing:\n{self._said.read_text()[-TAIL_CHARS:]}"
            )
        urls = tuple(line.split(","))
        logs = tuple(self.folder / f"replica-{index}.log" for index in range(len(urls)))
        # The file is as old as the line, which may have waited for us.
        ready_s = (self.folder / "servers.txt").stat().st_mtime - self._began_s
        return Server(urls, ready_s, logs, tuple(map(start_phases, logs)))

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        """None of its processes is left. Raises RunError."""
        assert self._process.stdout
        leaders: set[int] = set()  # of sessions: its own, and a replica's first process

        def living() -> list[int]:
            leaders.update(process_tree(self.pid))
            return [pid for leader in leaders for pid in members(leader)]

        living()
        self._process.terminate()
        if not gone(living, GRACE_S):
            kill(living())
        self._process.stdout.close()
        if not gone(living, KILL_S):
            raise RunError(f"processes {living()} of run_server.sh outlive KILL: end them")
        self._process.wait()


@contextmanager
def serve(
    flags: Sequence[str],
    engine_flags: Sequence[str],
    folder: Path,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Starting]:
    """run_server.sh with its own flags and the engine's, as it starts; ended at the end. Its logs are
    in `folder`."""
    starting = Starting(flags, engine_flags, folder, environ)
    try:
        yield starting
    finally:
        with deferred():
            starting.end()


def planned(
    flags: Sequence[str],
    engine_flags: Sequence[str],
    folder: Path,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Replica, ...]:
    """What `serve` would start for the same arguments. An engine that runs beside a served one wants
    the index of a replica of its own, whose GPU and caches are its own, too. Raises ConfigError,
    SetupError."""
    options = parse_args(words(flags, engine_flags, folder))
    engine = installed.find(options.engine, options.python, ENGINES)
    found = machine.look(options.platform, options.gpu)
    return plan.make(options, found, engine, environ).replicas


def words(flags: Sequence[str], engine_flags: Sequence[str], folder: Path) -> list[str]:
    """The command line of run_server.sh."""
    where = ("--log-dir", str(folder), "--servers-file", str(folder / "servers.txt"))
    return [*flags, *where, "--", *engine_flags]


def start_phases(log: Path) -> dict[str, float]:
    """Seconds by phase of a vLLM's start; without those that its log does not tell."""
    lines = lines_of(log.read_bytes())
    found = {}
    for name, pattern in PHASES.items():
        for line in lines:
            if match := re.search(pattern, line):
                found[name] = float(match[1])
                break
    return found
