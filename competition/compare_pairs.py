"""Two results at one point, and what all points together say. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, log

import numpy as np

from competition.bootstrap import FIGURES, Interval, Values, draw_ratios, interval, requests_of
from competition.compare_files import Place, Result


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure on both sides; None: not measured, or no interval can be given."""

    a: float | None
    b: float | None
    ratio: float | None  # B/A
    interval: Interval | None  # of the ratio

    @property
    def sign(self) -> int:
        """1: B's is higher, -1: lower, 0: nobody can tell."""
        if self.ratio is None or self.interval is None or self.interval.holds(1):
            return 0
        return 1 if self.ratio > 1 else -1


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One point."""

    place: Place
    a: Result
    b: Result
    paired: bool  # the same prompts on both sides
    draws: Mapping[str, Values] | None  # of each figure's ratio; None without records
    figures: Mapping[str, Compared]


def compare(a: Result, b: Result) -> Pair:
    """Both at the same place."""
    paired, draws = _same_prompts(a, b), None
    if a.records is not None and b.records is not None:
        requests = requests_of(a.records), requests_of(b.records)
        seed = (*a.place.lengths, a.place.concurrency)
        draws = draw_ratios(*requests, paired=paired, seed=seed)
    figures: dict[str, Compared] = {}
    for name in FIGURES:
        found, other = a.document.get(name), b.document.get(name)
        ratio = other / found if found and other else None
        drawn = interval(draws[name] * ratio) if draws and ratio else None
        figures[name] = Compared(found, other, ratio, drawn)
    return Pair(a.place, a, b, paired, draws, figures)


def _same_prompts(a: Result, b: Result) -> bool:
    if a.prompts is None or a.prompts != b.prompts or a.records is None or b.records is None:
        return False
    return all(np.array_equal(a.records[name], b.records[name]) for name in _SENT)


_SENT = ("index", "prompt_tokens")


def over_all(pairs: Sequence[Pair], name: str) -> Compared:
    """The geometric mean of a figure's ratio; each point's requests are drawn for themselves."""
    ratios = [pair.figures[name].ratio for pair in pairs]
    known = [ratio for ratio in ratios if ratio]
    if len(known) < len(pairs):
        return Compared(None, None, None, None)
    mean = exp(fsum(map(log, known)) / len(known))
    logs = [np.log(pair.draws[name]) for pair in pairs if pair.draws]
    whole = len(logs) == len(pairs)
    drawn = interval(np.exp(np.mean(logs, axis=0)) * mean) if whole else None
    return Compared(None, None, mean, drawn)


def differences(pairs: Sequence[Pair]) -> list[str]:
    """What beside the measured things is not alike on both sides, a sentence each."""
    found: dict[str, list[Place]] = {}
    for pair in pairs:
        theirs = pair.b.settings
        for name, ours in pair.a.settings.items():
            if ours != theirs[name]:
                shown = f"{name}: {_shown(ours)} in A, {_shown(theirs[name])} in B"
                found.setdefault(shown, []).append(pair.place)
        if pair.draws is not None and not pair.paired:
            found.setdefault("the prompts are not the same on both sides", []).append(pair.place)
    return [
        text if len(places) == len(pairs) else f"{text} ({', '.join(map(str, places))})"
        for text, places in found.items()
    ]


def _shown(value: object) -> str:
    return "not stated" if value is None else str(value)
