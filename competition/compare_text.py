"""What `compare` says: a sentence, a table, and the same as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from competition.bootstrap import LEVEL, RESAMPLES, Interval
from competition.compare_files import Place
from competition.compare_pairs import Compared, Pair, over_all

NOISE = (
    "The intervals tell the noise within a run (which requests it had), not that between runs: for "
    "that, measure each side several times."
)
LEADING = {"tput_per_gpu": "throughput per GPU", "interactivity": "interactivity"}


class Row(NamedTuple):
    label: str
    better: int  # 1: the higher one


ROWS = {
    "tput_per_gpu": Row("throughput per GPU, tok/s", 1),
    "output_throughput": Row("output throughput, tok/s", 1),
    "interactivity": Row("interactivity, tok/s/user", 1),
    "median_ttft_ms": Row("median TTFT, ms", -1),
    "median_tpot_ms": Row("median TPOT, ms", -1),
    "median_e2el_ms": Row("median E2EL, ms", -1),
    "p99_ttft_ms": Row("p99 TTFT, ms", -1),
    "p99_e2el_ms": Row("p99 E2EL, ms", -1),
}


def verdict(pairs: Sequence[Pair]) -> str:
    """One sentence."""
    failed = sum(not result.passed for pair in pairs for result in (pair.a, pair.b))
    return _verdict(pairs) + (f"; {failed} of the results have NOT PASSED" if failed else "")


def _verdict(pairs: Sequence[Pair]) -> str:
    found = [over_all(pairs, name) for name in LEADING]
    over = f"over {len(pairs)} point{'s' if len(pairs) > 1 else ''}"
    if any(figure.ratio is None for figure in found):
        return "no verdict: a point lacks its throughput or its interactivity"
    if any(figure.interval is None for figure in found):
        return f"{_each(found, _change)} {over}; without all records nobody knows how much is noise"
    speed, users = (figure.sign for figure in found)
    if not speed and not users:
        spans = _each(found, lambda figure: f"{_span(figure.interval)} %")
        return f"no difference that this many requests could show {over}: {spans}"
    first, second = (_told(*named) for named in zip(LEADING.values(), found, strict=True))
    word = "a mixed result" if speed * users < 0 else f"B is {_faster(speed + users)}"
    return f"{word}: {first} {over}; {second}"


def _each(found: Sequence[Compared], words: Callable[[Compared], str]) -> str:
    return ", ".join(f"{name} {words(f)}" for name, f in zip(LEADING.values(), found, strict=True))


def _told(name: str, found: Compared) -> str:
    if not found.sign:
        return f"{name} unchanged within the noise"
    return f"{name} {_change(found)} ({LEVEL} % interval {_span(found.interval)})"


def _faster(sign: int) -> str:
    return "faster" if sign > 0 else "slower"


def _change(found: Compared) -> str:
    return f"{_percent(found.ratio or 1)} %"


def _span(found: Interval | None) -> str:
    return "unknown" if found is None else f"{_percent(found.low)} to {_percent(found.high)}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}"


def table(pairs: Sequence[Pair]) -> str:
    """A block for each point."""
    head = f"{'':28}{'A':>12}{'B':>12}{'B/A':>9}   {LEVEL} % interval"
    return "\n".join([head, *(line for pair in pairs for line in _block(pair))])


def _block(pair: Pair) -> list[str]:
    sides = (("A", pair.a), ("B", pair.b))
    counts = ", ".join(f"{side} {result.document.get('completed')}" for side, result in sides)
    drawn = "" if pair.draws is None else ", the same prompts" if pair.paired else ", other prompts"
    failed = "".join(
        f"; {side} is {found.document['verdict']}" for side, found in sides if not found.passed
    )
    lines = [f"{pair.place} (requests: {counts}{drawn}{failed})"]
    return lines + [_line(ROWS[name], found) for name, found in pair.figures.items()]


def _line(row: Row, found: Compared) -> str:
    a, b, ratio = (_number(value, digits) for value, digits in _cells(found))
    span = (
        "" if found.interval is None else f"{found.interval.low:.3f} to {found.interval.high:.3f}"
    )
    word = {1: "better", -1: "worse", 0: ""}[found.sign * row.better]
    return f"  {row.label:<26}{a:>12}{b:>12}{ratio:>9}   {span:<16} {word}".rstrip()


def _cells(found: Compared) -> tuple[tuple[float | None, int], ...]:
    return (found.a, 2), (found.b, 2), (found.ratio, 3)


def _number(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:,.{digits}f}"


def as_json(
    pairs: Sequence[Pair], only: dict[str, list[Place]], warnings: Sequence[str]
) -> dict[str, Any]:
    return {
        "verdict": verdict(pairs),
        "all_points": {name: _whole(over_all(pairs, name)) for name in ROWS},
        "points": [_point(pair) for pair in pairs],
        "only_in": {side: [_place(place) for place in places] for side, places in only.items()},
        "warnings": list(warnings),
        "interval": {"percent": LEVEL, "resamples": RESAMPLES, "of": "noise within a run"},
    }


def _whole(found: Compared) -> dict[str, Any]:
    """Over all points only the ratio has a meaning."""
    return {name: value for name, value in asdict(found).items() if name not in ("a", "b")}


def _place(place: Place) -> dict[str, int]:
    return {"isl": place.lengths.isl, "osl": place.lengths.osl, "conc": place.concurrency}


def _point(pair: Pair) -> dict[str, Any]:
    return {
        **_place(pair.place),
        "a": str(pair.a.file),
        "b": str(pair.b.file),
        "passed": pair.a.passed and pair.b.passed,
        "resampling": ("paired" if pair.paired else "independent") if pair.draws else None,
        "figures": {name: asdict(found) for name, found in pair.figures.items()},
    }
