"""A step of the job: srun for one command on one node, its output, its graceful end.

TERM to srun itself kills its tasks at once. They are told to end by `scancel --signal=TERM JOB.STEP`,
and a step's number is found by its name.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from cluster.slurm import call
from core.errors import HarnessError

CALL_LIMIT_S = 20
TAIL_LINES = 12


class Step:
    """A running srun. What it writes to stdout is kept line by line, stderr goes to a file."""

    def __init__(self, name: str, node: str, words: Sequence[str], log: Path) -> None:
        self.name, self.node, self.log = name, node, log
        self.lines: list[str] = []
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stderr:
            self._popen = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C is for the orchestrator
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))

    def code(self) -> int | None:
        """srun's exit code, once all output is here; None while it runs."""
        code = self._popen.poll()
        if code is not None:
            self._reader.join(CALL_LIMIT_S)
        return code

    def wait(self, seconds: float) -> int | None:
        try:
            self._popen.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return None
        return self.code()

    def kill(self) -> None:
        """The last resort: srun ends, and Slurm kills its tasks."""
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()

    def tail(self) -> str:
        """The end of its log, for a message."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "".join(f"\n    {line}" for line in lines[-TAIL_LINES:] if line.strip())


def end(steps: Iterable[Step], job: str, grace_s: float) -> list[Step]:
    """TERM to the tasks of each, KILL after the grace; gives those that had to be killed."""
    left = [step for step in steps if step.code() is None]
    if not left:
        return []
    numbers = _numbers(job)
    _scancel("--signal=TERM", *(numbers[step.name] for step in left if step.name in numbers))
    killed = _wait(left, grace_s)
    if killed:
        _scancel(*(numbers[step.name] for step in killed if step.name in numbers))
        for step in _wait(killed, CALL_LIMIT_S):
            step.kill()
    return killed


def _wait(steps: Sequence[Step], seconds: float) -> list[Step]:
    """Those that still run after that time."""
    limit = time.monotonic() + seconds
    return [step for step in steps if step.wait(limit - time.monotonic()) is None]


def _numbers(job: str) -> dict[str, str]:
    """Step name -> JOB.STEP, of those that run."""
    told = _call(["squeue", "--steps", "--noheader", f"--jobs={job}", "--format=%i %j"])
    pairs = (line.split(None, 1) for line in told.splitlines())
    return {pair[1].strip(): pair[0] for pair in pairs if len(pair) == 2}


def _scancel(*words: str) -> None:
    if any(not word.startswith("-") for word in words):
        _call(["scancel", *words])


def _call(words: list[str]) -> str:
    """What it says; nothing where Slurm does not answer."""
    try:
        return call(words, limit_s=CALL_LIMIT_S).stdout
    except (HarnessError, OSError):
        return ""
