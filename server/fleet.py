"""All replicas of this machine: started, waited for, watched, ended together.

Nothing is restarted: a replica that comes and goes makes a measurement meaningless, so its death is
said aloud and left to the user.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType

from core.errors import RunError
from server.options import Options
from server.plan import Plan
from server.process import Process
from server.ready import Asking

LOOK_S = 0.2
PROGRESS_S = 10.0
TAIL_LINES = 20
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Ctrl-C, TERM or a lost terminal."""


def say(text: str) -> None:
    sys.stderr.write(f"run_server: {text}\n")
    sys.stderr.flush()


class Fleet:
    """Use with `with`: at its end no process of ours is left."""

    def __init__(self, plan: Plan, options: Options, environ: Mapping[str, str]) -> None:
        self._plan, self._options, self._environ = plan, options, environ
        self._processes: list[Process] = []
        self._stop, self._hurry = threading.Event(), False
        self.dead = 0  # replicas that died after all had been ready

    def __enter__(self) -> Fleet:
        self._before = {number: signal.signal(number, self._on_signal) for number in STOPS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(self._processes, self._options.grace_s)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(self) -> None:
        """Raises Stopped, RunError."""
        for replica in self._plan.replicas:
            self._pause(0)
            try:
                process = Process(replica, self._environ)
            except OSError as error:
                raise RunError(f"replica {replica.index} cannot be started: {error}") from None
            self._processes.append(process)
            say(f"replica {replica.index} ({replica.device}): {replica.url}, log {replica.log}")

    def wait_until_ready(self) -> None:
        """Raises Stopped; RunError where one died, refused or took too long."""
        began = time.monotonic()
        deadline, shown = began + self._options.timeout_s, began
        engine = self._plan.engine.name
        asking = [Asking(engine, process.replica, deadline) for process in self._processes]
        for thread in asking:
            thread.start()
        while waiting := [n for n, thread in enumerate(asking) if not thread.ready]:
            self._pause(LOOK_S)
            self._check(asking)
            now = time.monotonic()
            if now > deadline:
                raise RunError(self._too_slow(waiting, asking))
            if now - shown > PROGRESS_S:
                shown = now
                say(f"{now - began:.0f} s: {self._progress(waiting, asking)}")

    def watch(self) -> None:
        """Until the last replica has died, which raises RunError; or Stopped is raised."""
        living = list(self._processes)
        while living:
            self._pause(LOOK_S)
            for process in [process for process in living if process.code() is not None]:
                living.remove(process)
                self.dead += 1
                say(self._obituary(process))
                say(f"{len(living)} of {len(self._processes)} replicas left; none is restarted")
                self._end([process], 0)  # workers outlive their parent, and hold its GPU
        raise RunError("all replicas have died")

    def _check(self, asking: Sequence[Asking]) -> None:
        """Raises RunError where a replica will never be ready."""
        for process, thread in zip(self._processes, asking, strict=True):
            if process.code() is not None:
                raise RunError(self._obituary(process))
            if thread.refused:
                raise RunError(f"replica {process.replica.index} refuses: {thread.refused}")

    def _progress(self, waiting: Sequence[int], asking: Sequence[Asking]) -> str:
        slowest = max((self._processes[n] for n in waiting), key=Process.quiet_s)
        index, total = slowest.replica.index, len(self._processes)
        heard = f" [{asking[index].heard}]" if asking[index].heard else ""
        return (
            f"{total - len(waiting)} of {total} ready; replica {index}, "
            f"{slowest.quiet_s():.0f} s ago: {slowest.last_line()}{heard}"
        )

    def _too_slow(self, waiting: Sequence[int], asking: Sequence[Asking]) -> str:
        progress = self._progress(waiting, asking)
        return f"not ready within --timeout {self._options.timeout_s:g} s: {progress}"

    def _obituary(self, process: Process) -> str:
        code, replica = process.code() or 0, process.replica
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        lines = "".join(f"\n    {line}" for line in process.tail(TAIL_LINES))
        return (
            f"REPLICA {replica.index} DIED {how} ({replica.url}); the end of {replica.log}:{lines}"
        )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._hurry = self._stop.is_set()  # a second one does not wait
        self._stop.set()

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped

    def _end(self, processes: Sequence[Process], grace_s: float) -> None:
        """TERM, then KILL; returns when all are gone."""
        left = [process for process in processes if not process.ended()]
        for process in left:
            process.signal(signal.SIGTERM if grace_s else signal.SIGKILL)
        limit = time.monotonic() + grace_s
        while left := [process for process in left if not process.ended()]:
            if self._hurry or time.monotonic() > limit:
                for process in left:
                    process.signal(signal.SIGKILL)
            time.sleep(0.05)
