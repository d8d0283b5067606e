"""Being told to end: by Slurm before the time limit, by scancel, requeue or a lost node, by Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType, TracebackType

LOOK_S = 0.1
OURS = 0.8  # of the time until KILL: the rest is for the job's last words
REASONS = {
    signal.SIGUSR1: "the time limit is near",
    signal.SIGTERM: "Slurm ends the job (cancelled, requeued, or out of time)",
    signal.SIGINT: "Ctrl-C",
}


class Stopped(Exception):
    """The job is to end; what was measured stays."""


def say(text: str) -> None:
    """A line of the job's log, with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


class Stop:
    """Use with `with`: signals become a reason that who waits here learns of."""

    def __init__(self, kill_wait_s: float) -> None:
        self._kill_wait_s = kill_wait_s
        self.reason: str | None = None
        self.killed_at: float | None = None  # from when on Slurm kills what is left; monotonic

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._on_signal) for number in REASONS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Sets attributes alone: a lock here could be the one that is held where it interrupts."""
        if number == signal.SIGTERM and self.killed_at is None:
            self.killed_at = time.monotonic() + OURS * self._kill_wait_s
        self.reason = self.reason or REASONS[signal.Signals(number)]

    def wait(self, seconds: float) -> bool:
        """Whether the job is to end; waits up to `seconds` for it."""
        until = time.monotonic() + seconds
        while self.reason is None and (left := until - time.monotonic()) > 0:
            time.sleep(min(LOOK_S, left))
        return self.reason is not None

    def pause(self, seconds: float) -> None:
        """Raises Stopped."""
        if self.wait(seconds):
            raise Stopped(self.reason)

    def left_s(self, wanted_s: float) -> float:
        """Of some wanted seconds, those that Slurm leaves us."""
        if self.killed_at is None:
            return wanted_s
        return max(0.0, min(wanted_s, self.killed_at - time.monotonic()))
