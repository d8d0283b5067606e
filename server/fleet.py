"""All replicas of this machine: started, waited for, watched, ended together.

Nothing is restarted: a replica that comes and goes makes a measurement meaningless, so its death is
said aloud and left to the user.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType

from core.errors import RunError
from server.options import Options
from server.plan import Plan, Replica
from server.process import Process
from server.starting import Starting, obituary

LOOK_S = 0.2
PROGRESS_S = 10.0
KILL_S = 5.0  # for the kernel to end processes
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
        self._processes: list[Process] = []  # without those that were left out
        self._possible = len(plan.replicas)  # that are ready or may still be
        self._least = options.min_replicas or self._possible
        self._told, self._hurry = False, False
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

    @property
    def replicas(self) -> list[Replica]:
        """Those that serve, or should."""
        return [process.replica for process in self._processes]

    def start(self) -> None:
        """Raises Stopped; RunError where too few can be started."""
        for replica in self._plan.replicas:
            self._pause(0)
            try:
                process = Process(replica, self._environ)
            except OSError as error:
                self._miss(f"replica {replica.index} cannot be started: {error}")
                continue
            self._processes.append(process)
            say(f"replica {replica.index} ({replica.device}): {replica.url}, log {replica.log}")

    def wait_until_ready(self) -> None:
        """Raises Stopped; RunError where too few can be ready."""
        shown = time.monotonic()
        starting = Starting(self._plan.engine.name, self._processes, self._least, self._options)
        while starting.waiting:
            self._pause(LOOK_S)
            for process, why in starting.lost():
                self._pause(LOOK_S)  # Slurm says TERM to us and to them at the same time
                self._miss(why)
                starting.drop(process)
                self._processes.remove(process)
                self._kill(process)
            if time.monotonic() - shown > PROGRESS_S:
                shown = time.monotonic()
                say(starting.progress())

    def watch(self) -> None:
        """Until the last replica has died, which raises RunError; or Stopped is raised."""
        living = list(self._processes)
        while living:
            self._pause(LOOK_S)
            for process in [process for process in living if process.code() is not None]:
                self._pause(LOOK_S)  # as above
                living.remove(process)
                self.dead += 1
                say(obituary(process))
                say(f"{len(living)} of {len(self._processes)} replicas left; none is restarted")
                self._kill(process)  # workers outlive their parent, and hold its GPU
        raise RunError("all replicas have died")

    def _miss(self, why: str) -> None:
        """Go on without one, if enough are left. Raises RunError."""
        self._possible -= 1
        if self._possible >= self._least:
            say(f"WARNING: LEFT OUT, {self._possible} others stay: {why}")
        elif self._options.min_replicas is None:
            raise RunError(why)
        else:
            raise RunError(f"too few are left for --min-replicas {self._least}: {why}")

    def _kill(self, process: Process) -> None:
        """One that a GPU's driver holds cannot be ended and must not hold up the others."""
        limit = time.monotonic() + KILL_S
        while not process.ended():
            if time.monotonic() > limit:
                say(f"replica {process.replica.index} has processes that KILL does not end")
                return
            process.signal(signal.SIGKILL)
            time.sleep(0.05)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Sets attributes alone: a lock here could be the one that is held where it interrupts."""
        # A second Ctrl-C does not wait. Slurm says TERM twice and means it once.
        self._hurry = self._hurry or (self._told and number == signal.SIGINT)
        self._told = True

    def _pause(self, seconds: float) -> None:
        """Raises Stopped."""
        until = time.monotonic() + seconds
        while not self._told and (left := until - time.monotonic()) > 0:
            time.sleep(min(LOOK_S, left))
        if self._told:
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
