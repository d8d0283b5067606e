"""Power of GPUs, integrated by a thread over a block: for those that do not count joules themselves.

What could not be read is never taken for 0 W: readings a moment apart are bridged by a straight line,
and where more than a hundredth of the block lies in longer gaps there is no energy but an error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from core.errors import RunError
from telemetry.power_meter import Clock, Energy, PowerMeter, Sensor, Unreadable

PERIOD_S = 0.1
MAX_GAP_S = 1.0  # between two readings, as others read at all; a longer one counts as not read
MAX_UNREAD = 0.01  # of the block


@dataclass(slots=True)
class Integral:
    """Trapezoids below the readings of one GPU's power."""

    begin_s: float
    joules: float = 0.0
    unread_s: float = 0.0
    why: object = "no reading came in time"  # of the last failure
    last: tuple[float, float] | None = None  # instant and watts

    def add(self, at_s: float, watts: float) -> None:
        before_s, before_w = self.last or (self.begin_s, watts)
        self.joules, self.unread_s = self._bridged(at_s - before_s, (before_w + watts) / 2)
        self.last = at_s, watts

    def until(self, end_s: float) -> tuple[float, float]:
        """Joules, and seconds that were not read, from the beginning to an instant."""
        if self.last is None:
            return 0.0, end_s - self.begin_s
        return self._bridged(end_s - self.last[0], self.last[1])

    def _bridged(self, seconds: float, watts: float) -> tuple[float, float]:
        unread = seconds if seconds > MAX_GAP_S else 0.0
        return self.joules + seconds * watts, self.unread_s + unread


class IntegratingMeter(PowerMeter):
    """For sensors of watts, which a thread reads ten times a second."""

    def __init__(self, sensors: Sequence[Sensor], source: str, clock: Clock = time.monotonic):
        self._sensors, self._source, self._clock = sensors, source, clock
        self._begin_s, self._integrals = 0.0, list[Integral]()
        self._end_s: float | None = None
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="GPU power", daemon=True)

    def __enter__(self) -> Self:
        self._begin_s = self._clock()
        self._integrals = [Integral(self._begin_s) for _ in self._sensors]
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._end_s = self._look()

    def energy(self) -> Energy:
        with self._lock:
            end_s = self._clock() if self._end_s is None else self._end_s
            seconds = end_s - self._begin_s
            pairs = zip(self._sensors, self._integrals, strict=True)
            joules = tuple(_joules(sensor, integral, end_s) for sensor, integral in pairs)
        return Energy(seconds, joules, self._source)

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._look()

    def _look(self) -> float:
        """Read every sensor; the instant at which that was done."""
        for sensor, integral in zip(self._sensors, self._integrals, strict=True):
            value = sensor.value()
            with self._lock:
                if isinstance(value, Unreadable):
                    integral.why = value
                else:
                    integral.add(self._clock(), value)
        return self._clock()


def _joules(sensor: Sensor, integral: Integral, end_s: float) -> float:
    """Raises RunError."""
    joules, unread_s = integral.until(end_s)
    seconds = end_s - integral.begin_s
    if unread_s > MAX_UNREAD * seconds:
        raise RunError(
            f"{sensor.name}: its power could not be read for {unread_s:.1f} of {seconds:.1f} s "
            f"({integral.why}): its energy is not known; measure again"
        )
    return joules
