"""What a meter of GPUs' energy is, and the exact one: the difference of energy counters.

A GPU that could not be read has no energy, never 0 J: that is an error, told when it is asked for.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from core.errors import ConfigError, RunError

Clock = Callable[[], float]


class Unreadable(Exception):
    """A sensor gave no value that can be used; says why."""


class NoGpus(Exception):
    """This machine has no GPU of a kind, or no way to ask it; says why."""


@dataclass(frozen=True, slots=True)
class Energy:
    """What GPUs used. Without what the host used for them."""

    seconds: float
    joules: tuple[float, ...]  # of each GPU asked for, in that order
    source: str

    @property
    def total_j(self) -> float:
        return sum(self.joules)

    @property
    def mean_w(self) -> float:
        """Of all GPUs together."""
        return self.total_j / self.seconds


@dataclass(frozen=True, slots=True)
class Sensor:
    """One GPU's: joules since some instant, or watts. `read` raises Unreadable."""

    name: str  # of the GPU, in messages
    read: Callable[[], float]

    def value(self) -> float | Unreadable:
        """No GPU that runs draws nothing: who says 0 does not know."""
        try:
            found = self.read()
        except Unreadable as why:
            return why
        return found if found > 0 else Unreadable(f"it says {found:g}")


class PowerMeter(ABC):
    """Measures from the beginning of its `with` block to the end; serves for one block."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    def energy(self) -> Energy:
        """Of the block; within it, so far. Raises RunError where a GPU could not be read."""


class _Look(NamedTuple):
    at_s: float
    values: list[float | Unreadable]


class CounterMeter(PowerMeter):
    """For counters of joules, which are read twice: no thread."""

    def __init__(self, counters: Sequence[Sensor], source: str, clock: Clock = time.monotonic):
        self._counters, self._source, self._clock = counters, source, clock
        self._begin = _Look(0.0, [])
        self._end: _Look | None = None

    def __enter__(self) -> Self:
        self._begin = self._look()
        return self

    def __exit__(self, *_: object) -> None:
        self._end = self._look()

    def energy(self) -> Energy:
        begin, end = self._begin, self._end or self._look()
        pairs = zip(self._counters, begin.values, end.values, strict=True)
        seconds = end.at_s - begin.at_s
        return Energy(seconds, tuple(_grown(*pair, seconds) for pair in pairs), self._source)

    def _look(self) -> _Look:
        return _Look(self._clock(), [counter.value() for counter in self._counters])


def _grown(
    counter: Sensor, begin: float | Unreadable, end: float | Unreadable, seconds: float
) -> float:
    """Raises RunError."""
    if isinstance(begin, Unreadable) or isinstance(end, Unreadable):
        why = begin if isinstance(begin, Unreadable) else end
        raise RunError(f"{counter.name}: its energy counter could not be read: {why}")
    if end <= begin:
        raise RunError(
            f"{counter.name}: its energy counter went from {begin:.3f} J to {end:.3f} J within "
            f"{seconds:.3f} s: measure longer; if it fell, the driver was reloaded: measure again"
        )
    return end - begin


def check_numbers(gpus: Sequence[int], count: int, whose: str) -> None:
    """Raises ConfigError for GPUs that are not there, or that would count twice."""
    if not gpus or len(set(gpus)) < len(gpus):
        raise ConfigError(f"GPUs {list(gpus)}: name at least one, and each once")
    for gpu in gpus:
        if not 0 <= gpu < count:
            raise ConfigError(f"GPU {gpu}: {whose} has {count} on this machine, 0 to {count - 1}")
