"""The Pareto frontier against its definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from competition.pareto import frontier

Point = tuple[float, float]
POINTS = st.lists(st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float)))


def of(points: list[Point], low: bool = False) -> list[Point]:
    return frontier(points, lambda p: p[0], lambda p: p[1], low_x_is_better=low)


def test_interactivity_and_throughput_both_high() -> None:
    points = [(100.0, 50.0), (200.0, 40.0), (150.0, 30.0), (300.0, 10.0), (90.0, 50.0)]
    assert of(points) == [(100.0, 50.0), (200.0, 40.0), (300.0, 10.0)]


def test_low_latency_and_high_throughput() -> None:
    points = [(1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (4.0, 50.0), (4.0, 40.0)]
    assert of(points, low=True) == [(1.0, 10.0), (2.0, 30.0), (4.0, 50.0)]


def test_nothing_and_one_point() -> None:
    assert of([]) == []
    assert of([(1.0, 1.0)]) == [(1.0, 1.0)]


def test_points_are_kept_as_they_are_and_of_equal_ones_the_first() -> None:
    rows = [{"x": 1, "y": 2, "n": 0}, {"x": 1, "y": 2, "n": 1}]
    assert frontier(rows, lambda row: row["x"], lambda row: row["y"]) == rows[:1]


@given(POINTS, st.booleans())
def test_is_what_the_definition_says(points: list[Point], low: bool) -> None:
    sign = -1 if low else 1

    def beaten(p: Point) -> bool:
        return any(q != p and sign * q[0] >= sign * p[0] and q[1] >= p[1] for q in points)

    assert of(points, low) == sorted({p for p in points if not beaten(p)})
