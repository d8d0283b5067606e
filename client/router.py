"""Which replica gets the next query.

Data parallel replicas are independent engines. The default sends a query to the replica with the
fewest outstanding tokens (prompt plus expected answer); `round-robin` is there for comparison. A
replica that has as many queries as it may have is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from backends.detect import Address
from client.connection import Connection
from core.config import Routing

# Failures without an answer, in a row, after which a replica is given up.
MAX_STRIKES = 8
LOAD = attrgetter("outstanding_tokens")
# Multiples of it modulo 1 are spread evenly, however many are taken.
GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(slots=True, eq=False)
class Replica:
    """One engine as this worker sees it."""

    number: int
    address: Address
    limit: int  # most open queries, of this worker
    idle: dict[Connection, None] = field(default_factory=dict)  # an ordered set
    open: int = 0
    outstanding_tokens: float = 0.0
    strikes: int = 0
    out_reason: str | None = None  # why it was taken out; None while it serves

    @property
    def free(self) -> bool:
        return self.open < self.limit and self.out_reason is None

    def take_out(self, reason: str) -> None:
        if self.out_reason is None:
            self.out_reason = reason

    def strike(self, reason: str) -> None:
        self.strikes += 1
        if self.strikes >= MAX_STRIKES:
            self.take_out(f"{self.strikes} failures in a row, the last one: {reason}")


class Router:
    """Chooses among the replicas that serve. One per worker, so that no lock is needed."""

    def __init__(self, replicas: Sequence[Replica], routing: Routing, first: int) -> None:
        self._routing = routing
        self.replicas = replicas
        self._order = deque(replicas)  # the one that waited longest comes first
        self._order.rotate(-start(first, len(replicas)))
        self._crowded = False  # at the last look somebody had no room

    @property
    def alive(self) -> bool:
        return any(replica.out_reason is None for replica in self.replicas)

    def choose(self) -> Replica | None:
        """The replica for the next query; None when none has room."""
        if len(self.replicas) == 1:
            only = self.replicas[0]
            return only if only.open < only.limit and only.out_reason is None else None
        # The first of equal loads; the chosen one goes to the end of the order, so that equal loads
        # take turns. To look at loads alone is cheaper, and does while nobody is full, as in Server.
        chosen = None if self._crowded else self._pick(self._order)
        if chosen is None or not chosen.free:
            free = [r for r in self._order if r.open < r.limit and r.out_reason is None]
            self._crowded = len(free) < len(self._order)
            if not free:
                return None
            chosen = self._pick(free)
        self._order.remove(chosen)
        self._order.append(chosen)
        return chosen

    def _pick(self, among: Sequence[Replica]) -> Replica:
        return among[0] if self._routing == "round-robin" else min(among, key=LOAD)

    def begin(self, replica: Replica, weight: float) -> None:
        replica.open += 1
        replica.outstanding_tokens += weight

    def end(self, replica: Replica, weight: float) -> None:
        replica.open -= 1
        # An idle replica has nothing outstanding, whatever rounding left of weights: or of idle ones
        # those with the smallest remainders would be preferred.
        replica.outstanding_tokens = replica.outstanding_tokens - weight if replica.open else 0.0


def start(worker: int, n_replicas: int) -> int:
    """Where a worker begins: far from the others, who all take turns at the same pace.

    Side by side, the first queries of all would meet at the same few replicas.
    """
    return int(worker * GOLDEN_RATIO % 1 * n_replicas)
