"""The figures as a table in Markdown, and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.workloads import FIGURES, Figure

HEAD = ("", "work", "unit", "ours", "spread", "C limit", "ours / C", "aim", "")


@dataclass(frozen=True, slots=True)
class Values:
    """What the repetitions of one figure gave, in order."""

    ours: tuple[float, ...]
    floor: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.ours)

    @property
    def ratio(self) -> float | None:
        """Of each repetition by itself: a busy machine slows both sides down."""
        ratios = [ours / floor for ours, floor in zip(self.ours, self.floor, strict=False)]
        return statistics.median(ratios) if ratios else None


def gather(runs: Iterable[Mapping[str, tuple[float, float | None]]]) -> dict[str, Values]:
    """Repetitions to values by figure, in the table's order."""
    found: dict[str, Values] = {}
    for run in runs:
        for key, (ours, floor) in run.items():
            old = found.get(key, Values(()))
            more = () if floor is None else (floor,)
            found[key] = Values((*old.ours, ours), old.floor + more)
    return {figure.key: found[figure.key] for figure in FIGURES if figure.key in found}


def rows(values: Mapping[str, Values]) -> list[tuple[str, ...]]:
    return [_row(figure, values[figure.key]) for figure in FIGURES if figure.key in values]


def _row(figure: Figure, values: Values) -> tuple[str, ...]:
    met = "" if figure.target is None else ("over", "ok")[values.median <= figure.target]
    return (
        figure.key,
        figure.title,
        figure.unit,
        number(values.median),
        f"{number(min(values.ours))} to {number(max(values.ours))}",
        number(statistics.median(values.floor)) if values.floor else "",
        "" if values.ratio is None else f"{values.ratio:.1f}",
        "" if figure.target is None else number(figure.target),
        met,
    )


def number(value: float) -> str:
    """Three digits or so."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(table: Sequence[Sequence[str]]) -> str:
    lines = [HEAD, *table]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    texts = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:], ""])


def as_json(values: Mapping[str, Values]) -> str:
    found = {
        figure.key: {
            "title": figure.title,
            "unit": figure.unit,
            "target": figure.target,
            "ours": values[figure.key].ours,
            "c_limit": values[figure.key].floor,
        }
        for figure in FIGURES
        if figure.key in values
    }
    return json.dumps(found, indent=2) + "\n"
