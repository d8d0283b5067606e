"""The points that no other beats. Of the standard library alone: the leaderboard's Space has it, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def frontier(
    points: Iterable[T],
    x: Callable[[T], float],
    y: Callable[[T], float],
    *,
    low_x_is_better: bool = False,
) -> list[T]:
    """Those that no other beats in x and in y, by x; a high y is better. Of equal ones the first."""
    sign = 1 if low_x_is_better else -1
    kept: list[T] = []
    for point in sorted(points, key=lambda point: (sign * x(point), -y(point))):
        if not kept or y(point) > y(kept[-1]):
            kept.append(point)
    return kept if low_x_is_better else kept[::-1]
