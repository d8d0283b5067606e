"""How many Offline queries each replica may hold, learned from what the engines say of themselves.

A query that waits inside one engine cannot go to another one that is free. So a replica is given
what it runs and a small cushion that hides the way to the next query; the rest stays in the
harness. A policy without input or output: samples in, changed limits out.

- Crowded: more than the cushion waits, and no more run than before, in two samples in a row. The
  limit becomes what runs, plus the cushion. What waits already stays there, so the limit follows what
  runs until it is gone.
- Hungry: as many are open as may be, and nothing waits, in two samples in a row. The limit rises by a
  cushion, and by twice as much each time in a row.
- Filling: as many are open as may be, and no more wait than the engine has begun from look to look,
  because it still reads prompts: it would stand still before the next look. The limit rises by a
  quarter of what runs. (Two H200 that had to be hungry first ran with a third of their places empty
  for 20 s of a run of 57 s.)
- Between the two nothing changes, so a limit that fits comes to rest. Nothing changes either at the
  end of a run, when less is open than may be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

MIN_CUSHION = 16  # requests
CUSHION_SHARE = 0.05  # of the running ones
FILLING_SHARE = 0.25  # of the running ones
FULL_SHARE = 0.9  # of the limit: answers that have just ended leave a gap


class Load(Protocol):
    """A look at one replica, as `telemetry.sample.ReplicaSample` is."""

    @property
    def replica(self) -> int: ...
    @property
    def running(self) -> int | None: ...
    @property
    def waiting(self) -> int | None: ...


class State(Enum):
    CROWDED = 1
    FITTING = 2
    HUNGRY = 3


@dataclass(slots=True)
class _Replica:
    limit: int
    state: State = State.FITTING
    running: int = 0
    grown: int = 0  # since the look before
    rises: int = 0  # in a row, of one that does not fill


class Pacing:
    """The limit of each replica, over all workers."""

    def __init__(self, n_replicas: int, start: int, ceiling: int) -> None:
        """`start` holds until a replica's metrics say otherwise; `ceiling` (at least 1) always."""
        self._ceiling = max(1, ceiling)
        self._replicas = [_Replica(min(max(1, start), self._ceiling)) for _ in range(n_replicas)]

    @property
    def limits(self) -> list[int]:
        return [replica.limit for replica in self._replicas]

    def observe(self, samples: Iterable[Load]) -> dict[int, int]:
        """Take samples, oldest first; the limits that are now different, by replica."""
        before = self.limits
        for sample in samples:
            if sample.running is not None and sample.waiting is not None:
                self._look(self._replicas[sample.replica], sample.running, sample.waiting)
        return {
            number: replica.limit
            for number, replica in enumerate(self._replicas)
            if replica.limit != before[number]
        }

    def _look(self, replica: _Replica, running: int, waiting: int) -> None:
        grown = running - replica.running
        absorbed = max(0, min(grown, replica.grown))  # twice in a row: more than a fluctuation
        state = judge(replica.limit, running, waiting, absorbed)
        twice = state is replica.state
        if state is State.CROWDED and twice:
            self._fit(replica, max(running, replica.running))
        elif state is State.HUNGRY and absorbed:
            self._raise(replica, max(MIN_CUSHION, int(running * FILLING_SHARE)))
        elif state is State.HUNGRY and twice:
            self._raise(replica, cushion(running) << min(replica.rises, 8))
            replica.rises += 1
        if state is not State.HUNGRY:
            replica.rises = 0
        replica.state, replica.running, replica.grown = state, running, grown

    def _fit(self, replica: _Replica, running: int) -> None:
        limit = running + cushion(running)
        # A batch that ends or begins between two looks is no reason to change anything.
        if abs(limit - replica.limit) > cushion(running) // 2:
            replica.limit = min(limit, self._ceiling)

    def _raise(self, replica: _Replica, step: int) -> None:
        replica.limit = min(replica.limit + step, self._ceiling)


def judge(limit: int, running: int, waiting: int, absorbed: int) -> State:
    """absorbed: by how much more run than a look ago, where that is no fluctuation."""
    if waiting <= absorbed and running + waiting >= FULL_SHARE * limit:
        return State.HUNGRY
    if waiting > cushion(running):
        return State.FITTING if absorbed else State.CROWDED
    return State.FITTING


def cushion(running: int) -> int:
    """How many requests should wait inside an engine: enough for the time until the next arrive."""
    return max(MIN_CUSHION, int(running * CUSHION_SHARE))


def first_limit(most: int, n_queries: int, n_replicas: int) -> int:
    """Where to start when `most` may be open at a replica that has metrics.

    What has been given out cannot be taken back, so half of a short run's queries wait until the
    engines have spoken; a hungry one gets them within seconds.
    """
    half = -(-n_queries // (2 * n_replicas))
    return min(most, max(MIN_CUSHION, half))
