"""From verdicts to the score: complete or no score at all, then the reference's formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from accuracy.interval import Interval, clustered_wilson, weighted
from accuracy.reference import Reference
from accuracy.registry import repeats
from accuracy.sample import Sample
from core.rules import ACCURACY_TARGET

TOO_LOW = "the score"
_SHOWN = 5  # qsl_idx named in a reason


@dataclass(frozen=True, slots=True)
class DatasetScore:
    """One row of the table."""

    dataset: str
    correct: int
    total: int
    repeats: int
    problems: int  # different prompts
    without_answer: int  # nothing could be extracted
    without_final: int  # no final section
    look_alikes: int  # spell a special token with plain ones
    mean_tokens: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Score:
    """What an accuracy run is worth. `score` and `interval` are None unless it is complete."""

    score: float | None  # percent
    interval: Interval | None
    target: float  # percent
    complete: bool  # every expected sample is there exactly once and could be judged
    passed: bool  # complete, at or above the target, and no query failed
    expected: int
    samples: int
    datasets: tuple[DatasetScore, ...]
    reasons: tuple[str, ...]  # why it did not pass

    @property
    def problems(self) -> tuple[str, ...]:
        """The reasons less the one that the score itself is too low."""
        return tuple(reason for reason in self.reasons if not reason.startswith(TOO_LOW))

    @property
    def exit_code(self) -> int:
        return 0 if self.passed else 1


def tally(
    samples: Sequence[Sample],
    reference: Reference,
    *,
    closed: bool = True,
    target: float = ACCURACY_TARGET,
) -> Score:
    """Add up verdicts; `closed`: whether the log had its end.

    Score = sum(correct / repeats) / sum(total / repeats) over the datasets, in percent.
    """
    faults = tuple(_faults(samples, len(reference), closed))
    rows = tuple(_rows(samples, reference))
    whole = weighted([(row.total / row.repeats, row.interval) for row in rows]) if rows else None
    score = _score(rows) if rows and not faults else None
    misses = tuple(_misses(samples, score, target))
    return Score(
        score=score,
        interval=whole if score is not None else None,
        target=target,
        complete=not faults,
        passed=not faults and not misses,
        expected=len(reference),
        samples=len(samples),
        datasets=rows,
        reasons=faults + misses,
    )


def _score(rows: Sequence[DatasetScore]) -> float:
    correct = sum(row.correct / row.repeats for row in rows)
    return correct / sum(row.total / row.repeats for row in rows) * 100


def _faults(samples: Sequence[Sample], expected: int, closed: bool) -> Iterator[str]:
    """What makes a score impossible."""
    if not closed:
        yield "the log has no end: the run was cut off, or is still going on"
    faults = [sample.reason for sample in samples if sample.fault]
    if faults:
        yield f"{len(faults)} entries could not be judged: {'; '.join(faults[:_SHOWN])}"
    seen = Counter(sample.qsl_idx for sample in samples if sample.dataset)
    missing = [index for index in range(expected) if index not in seen]
    if missing:
        yield f"{len(missing)} of {expected} samples are missing: qsl_idx {_some(missing)}"
    twice = sorted(index for index, count in seen.items() if count > 1)
    if twice:
        yield f"{len(twice)} samples are there more than once: qsl_idx {_some(twice)}"


def _misses(samples: Sequence[Sample], score: float | None, target: float) -> Iterator[str]:
    """What makes a run fail that has a score."""
    empty = sorted(sample.qsl_idx for sample in samples if sample.dataset and not sample.n_tokens)
    if empty:
        yield f"{len(empty)} answers are empty, their queries failed: qsl_idx {_some(empty)}"
    if score is not None and score < target:
        yield f"{TOO_LOW} {score:.3f} is below the target {target:.4f}"


def _some(indices: Sequence[int]) -> str:
    shown = ", ".join(map(str, indices[:_SHOWN]))
    return f"{shown}, ..." if len(indices) > _SHOWN else shown


def _rows(samples: Sequence[Sample], reference: Reference) -> Iterator[DatasetScore]:
    for name in sorted({sample.dataset for sample in samples if sample.dataset}):
        yield _row(name, [sample for sample in samples if sample.dataset == name], reference)


def _row(name: str, samples: Sequence[Sample], reference: Reference) -> DatasetScore:
    correct = np.array([sample.correct for sample in samples])
    problem = reference.problems[[sample.qsl_idx for sample in samples]]
    return DatasetScore(
        dataset=name,
        correct=int(correct.sum()),
        total=len(samples),
        repeats=repeats(name),
        problems=len(np.unique(problem)),
        without_answer=sum(sample.extracted is None for sample in samples),
        without_final=sum(not sample.final_section for sample in samples),
        look_alikes=sum(sample.look_alike for sample in samples),
        mean_tokens=float(np.mean([sample.n_tokens for sample in samples])),
        interval=clustered_wilson(correct, problem),
    )
