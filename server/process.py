"""A replica's processes: started in a session of their own, ended together.

An engine is a tree of processes, and a worker can outlive the parent that died. All are found by
their session, which they cannot leave without meaning to.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from server.plan import Replica

TAIL_BYTES = 16_384
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # before any fork: loading takes locks
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Process:
    """A started replica. To be made in the main thread, whose end ends it."""

    def __init__(self, replica: Replica, environ: Mapping[str, str]) -> None:
        self.replica = replica
        kept = {name: value for name, value in environ.items() if name not in replica.removed}
        with _fresh(replica.log).open("wb") as log:
            self._popen = subprocess.Popen(
                replica.command,
                env=kept | dict(replica.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C of the terminal reaches us alone
                preexec_fn=partial(_die_with, os.getpid()),  # safe: no thread of ours runs so far
            )
        self.gone = False

    @property
    def pid(self) -> int:
        return self._popen.pid

    def code(self) -> int | None:
        """Exit code of the first process, None while it lives; below 0: ended by that signal."""
        return self._popen.poll()

    def signal(self, number: signal.Signals) -> None:
        """To every process of the session."""
        for pid in self._members():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def ended(self) -> bool:
        """Whether none is left. A session's number is not used again before that."""
        if not self.gone:
            self.gone = self._popen.poll() is not None and not self._members()
        return self.gone

    def _members(self) -> list[int]:
        """Its living processes."""
        return [] if self.gone else members(self.pid)

    def last_line(self) -> str:
        lines = self.tail(1)
        return lines[0][:160] if lines else "(no output yet)"

    def quiet_s(self) -> float:
        """Seconds since the last output."""
        try:
            return max(0.0, time.time() - self.replica.log.stat().st_mtime)
        except OSError:
            return 0.0

    def tail(self, count: int) -> list[str]:
        """The last lines of the log that hold anything."""
        try:
            with self.replica.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return []
        lines = (ANSI.sub("", line).strip() for line in re.split(r"[\r\n]+", text))
        return [line for line in lines if line][-count:]


def _die_with(parent: int) -> None:
    """Slurm ends a job with KILL, which nobody can pass on: the kernel is asked to."""
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before it was asked
        os.kill(os.getpid(), signal.SIGKILL)


def members(session: int) -> list[int]:
    """Living processes of a session; zombies only wait for somebody to take note."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = file.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(sid) == session and state not in "ZX":
            found.append(int(file.parent.name))
    return found


def _fresh(log: Path) -> Path:
    """An earlier log is moved aside, never overwritten."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(log.stat().st_mtime))
        log.rename(log.with_name(f"{log.stem}.{stamp}{log.suffix}"))
    return log
