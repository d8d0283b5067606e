"""What this client can drive, from what queries and events cost each of its processes.

A process's CPU time is taken as a sum of two straight lines, one over the queries and one over the
stream events of a second. Two steady loads of different mixture give
both slopes; the run's own mixture, made larger until the first process is 80 % busy, is the ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from results.headroom import MAX_BUSY

LEAST_BUSY = 1e-9  # a share of a core that nobody can measure


@dataclass(frozen=True, slots=True)
class Mix:
    """A load, in a second. events: 0 where answers are not streamed."""

    queries: float
    events: float = 0.0

    def times(self, factor: float) -> Mix:
        return Mix(self.queries * factor, self.events * factor)

    def __str__(self) -> str:
        events = f" / {_round(self.events)} events/s" if self.events else ""
        return f"{_round(self.queries)} QPS{events}"


@dataclass(frozen=True, slots=True)
class Reading:
    """How busy each process was under a steady load, in shares of a core."""

    load: Mix
    busy: tuple[float, ...]  # LoadGen's process first, then the workers


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds that a process spends on each of the run's queries and events."""

    process: str
    query_s: float
    event_s: float

    def busy(self, load: Mix) -> float:
        """The share of a core under `load`."""
        return self.query_s * load.queries + self.event_s * load.events


def costs(readings: Sequence[Reading], cores: int) -> tuple[Cost, ...]:
    """The slopes of each process, and those of the machine: of all processes on `cores` together.

    One reading is enough where there are no events.
    """
    loads = np.array([[reading.load.queries, reading.load.events] for reading in readings])
    busy = np.array([reading.busy for reading in readings])
    slopes = np.clip(np.linalg.lstsq(loads, busy, rcond=None)[0], 0.0, None)
    names = ["LoadGen", *(f"worker {i}" for i in range(busy.shape[1] - 1))]
    found = [Cost(name, *map(float, slope)) for name, slope in zip(names, slopes.T, strict=True)]
    whole = slopes.sum(axis=1) / cores
    return (*found, Cost(f"all {cores} cores", *map(float, whole)))


@dataclass(frozen=True, slots=True)
class Calibration:
    """The client's ceiling on this machine, against what a run needs."""

    need: Mix
    costs: tuple[Cost, ...]

    @property
    def first(self) -> Cost:
        """The process that reaches its limit first."""
        return max(self.costs, key=lambda cost: cost.busy(self.need))

    @property
    def ceiling(self) -> Mix:
        """The run's mixture at which the first process is 80 % busy."""
        return self.need.times(MAX_BUSY / max(self.first.busy(self.need), LEAST_BUSY))

    @property
    def enough(self) -> bool:
        return self.first.busy(self.need) <= MAX_BUSY

    @property
    def sentence(self) -> str:
        """For the user: ceiling, need, and what to do where it is not enough."""
        said = f"this client can drive {self.ceiling}; your run needs {self.need}"
        if self.enough:
            return said
        name = self.first.process
        if name.startswith("worker"):
            stream = " or a larger stream interval on the engine" if self.need.events else ""
            remedy = f"use more --num-workers{stream}"
        else:
            remedy = "use a machine with faster cores" if name == "LoadGen" else "use more cores"
        return f"{said}, which is more: {name} would be the bottleneck: {remedy}"

    def to_json(self) -> dict[str, Any]:
        return {
            "need": asdict(self.need),
            "ceiling": asdict(self.ceiling),
            "enough": self.enough,
            "first_at_its_limit": self.first.process,
            "max_busy": MAX_BUSY,
            "costs": [asdict(cost) for cost in self.costs],
        }


def _round(number: float) -> str:
    """Three digits: more would be noise."""
    return f"{float(f'{number:.3g}'):,.10g}"
