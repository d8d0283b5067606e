"""A client as a child process, and the CPU time of its whole process tree between two instants.

A client uses seconds of CPU before its first request (it imports torch) and after its last answer (it
writes files), more than all requests cost it. So its CPU is sampled all the time, and what counts is
what it used between its first request and its last answer, which the client itself knows to the
microsecond. The engine is not asked when it is busy: one look at its `/metrics` takes its API server 5
to 15 ms, in which no stream moves, and the run is to be measured, not the watching.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from time import monotonic_ns, sleep

import numpy as np

from bench.processes import process_tree
from client.busy import cpu_s_of

STEP_S = 0.05


@dataclass(frozen=True, slots=True)
class Watched:
    """A client that has ended, and how much CPU time it had used when."""

    returncode: int
    stdout: str
    stderr: str
    times_ns: tuple[int, ...]  # CLOCK_MONOTONIC, every STEP_S
    used_s: tuple[float, ...]  # by then, of all its processes together

    def cpu_s(self, begin_ns: int, end_ns: int) -> float:
        """CPU seconds that the tree used between two instants of CLOCK_MONOTONIC."""
        begin_s, end_s = np.interp((begin_ns, end_ns), self.times_ns, self.used_s)
        return float(end_s - begin_s)


def watch(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Watched:
    """Run a command to its end; its tree is killed when waiting for it is interrupted."""
    times_ns, used_s = [monotonic_ns()], [0.0]
    with (
        TemporaryFile("w+", errors="replace") as output,
        TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        ) as process,
    ):
        try:
            while process.poll() is None:
                # A process that ends is in its parent's time as soon as the parent has waited for it,
                # and in nobody's for the moment before.
                used_s.append(max(used_s[-1], _tree_cpu_s(process.pid)))
                times_ns.append(monotonic_ns())
                sleep(STEP_S)
        finally:
            _kill(process.pid)
            process.wait()
        output.seek(0)
        errors.seek(0)
        texts = output.read(), errors.read()
    return Watched(process.returncode, *texts, tuple(times_ns), tuple(used_s))


def _tree_cpu_s(pid: int) -> float:
    """Parents are read before their children, so that nothing is counted twice."""
    return sum(map(cpu_s_of, process_tree(pid)))


def _kill(pid: int) -> None:
    for member in list(process_tree(pid)):
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
