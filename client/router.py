"""Which replica gets the next query.

Data parallel replicas are independent engines. The default sends a query to the replica with the
fewest outstanding tokens (prompt plus expected answer); `round-robin` is there for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from backends.detect import Address
from client.connection import Connection
from core.config import Routing

# Failures without an answer, in a row, after which a replica is given up.
MAX_STRIKES = 8


@dataclass(slots=True, eq=False)
class Replica:
    """One engine as this worker sees it."""

    number: int
    address: Address
    idle: list[Connection] = field(default_factory=list)
    outstanding_tokens: float = 0.0
    strikes: int = 0
    out_reason: str | None = None  # why it was taken out; None while it serves

    def take_out(self, reason: str) -> None:
        if self.out_reason is None:
            self.out_reason = reason

    def strike(self, reason: str) -> None:
        self.strikes += 1
        if self.strikes >= MAX_STRIKES:
            self.take_out(f"{self.strikes} failures in a row, the last one: {reason}")


class Router:
    """Chooses among the replicas that serve. One per worker, so that no lock is needed."""

    def __init__(self, replicas: list[Replica], routing: Routing, first: int) -> None:
        self._replicas = replicas
        self._routing = routing
        self._turn = count(first)  # workers start at different replicas

    def choose(self) -> Replica | None:
        """The replica for the next query; None when all have been taken out."""
        alive = [replica for replica in self._replicas if replica.out_reason is None]
        if not alive:
            return None
        turn = next(self._turn) % len(alive)
        if self._routing == "round-robin" or len(alive) == 1:
            return alive[turn]
        # Equal loads are taken in turn, else the first replica would get every query of a quiet run.
        return min(alive[turn:] + alive[:turn], key=lambda replica: replica.outstanding_tokens)
