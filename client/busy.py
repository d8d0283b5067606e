"""How busy one process of the harness is, second by second: the fact behind the self-audit.

CPU time and not load average or wall time: a process at 100 % of a core cannot do more, whatever else
the machine does. Taking a sample costs two system calls, so it is cheap enough for a worker's sweep.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np

from core.account import ProcessAccount

TICKS_S = os.sysconf("SC_CLK_TCK")


def cpu_s_of(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended; 0 once it has ended itself."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS_S


class BusyMeter:
    """CPU time of this process, all its threads, from `start` on."""

    def __init__(self) -> None:
        self._wall_s: list[float] = []
        self._cpu_s: list[float] = []

    def start(self) -> None:
        self._wall_s, self._cpu_s = [], []
        self.sample()

    def sample(self) -> None:
        """Note how much CPU time was used by now; at least once a second."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._wall_s.append(time.monotonic())
        self._cpu_s.append(usage.ru_utime + usage.ru_stime)

    def account(self, name: str, stall_counts: tuple[int, ...]) -> ProcessAccount:
        """The account up to now; a last part of a second is in the totals only."""
        self.sample()
        wall_s = np.array(self._wall_s) - self._wall_s[0]
        cpu_s = np.array(self._cpu_s) - self._cpu_s[0]
        # Samples come late when a process is busy, so each second's share is interpolated.
        seconds = np.arange(int(wall_s[-1]) + 1, dtype=np.float64)
        busy = np.diff(np.interp(seconds, wall_s, cpu_s))
        return ProcessAccount(
            name,
            float(cpu_s[-1]),
            float(wall_s[-1]),
            tuple(round(float(share), 4) for share in busy),
            stall_counts,
        )
