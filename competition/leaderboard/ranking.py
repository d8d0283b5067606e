"""Who stands where at one concurrency."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from competition.leaderboard.entry import Entry, team_key
from competition.leaderboard.store import Stored


class Point(NamedTuple):
    x: float
    y: float


class Standing(NamedTuple):
    rank: int
    of: int


def merit(entry: Entry) -> tuple[float, float, float]:
    """Sorts the better first: throughput, then interactivity, then latency."""
    return (-entry.tput_per_gpu, -entry.interactivity, entry.median_e2e_ms)


def best_of_teams(rows: Iterable[Stored], concurrency: int) -> list[Stored]:
    """Each team's best submission at that concurrency, the first of them first. Of equal ones the
    earlier stands above."""
    at = (row for row in rows if row.entry.concurrency == concurrency)
    best: dict[str, Stored] = {}
    for row in sorted(at, key=lambda row: (*merit(row.entry), row.id)):
        best.setdefault(row.entry.key, row)
    return list(best.values())


def standing(rows: Iterable[Stored], team: str, concurrency: int) -> Standing:
    """The team's own, with its best submission. Raises ValueError for a team that has none."""
    keys = [row.entry.key for row in best_of_teams(rows, concurrency)]
    return Standing(keys.index(team_key(team)) + 1, len(keys))
