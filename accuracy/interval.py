"""95 % intervals for a share of right answers to problems that were asked several times.

Answers to the same problem go together, so n answers say less than n independent ones. Each dataset
has Wilson's interval with the effective number of answers that the spread between problems implies
(p(1-p) / cluster-robust variance), never more than the answers and never fewer than the problems:
all right says as much as the problems do. The score's interval adds the datasets' (MOVER: Newcombe).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

_Z = 1.959964  # the normal distribution's 97.5 % quantile


@dataclass(frozen=True, slots=True)
class Interval:
    """A share from 0 to 1 with its limits."""

    share: float
    low: float
    high: float


def clustered_wilson(correct: npt.NDArray[np.bool_], problem: npt.NDArray[np.int64]) -> Interval:
    """The interval for the share of True in `correct`, shape (n,) with n > 0, clustered by problem."""
    share = float(correct.mean())
    return wilson(share, effective_answers(correct, problem))


def effective_answers(correct: npt.NDArray[np.bool_], problem: npt.NDArray[np.int64]) -> float:
    """How many independent answers would say as much."""
    n, share = len(correct), correct.mean()
    _, cluster = np.unique(problem, return_inverse=True)
    problems = int(cluster.max()) + 1
    excess = np.bincount(cluster, correct - share)  # right answers beyond the average, per problem
    variance = problems / max(problems - 1, 1) * float(np.sum(excess**2)) / n**2
    if variance == 0:
        return problems
    return min(max(float(share * (1 - share)) / variance, problems), n)


def wilson(share: float, n: float) -> Interval:
    """Wilson's score interval for a share seen in n independent trials."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def weighted(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """The interval of a weighted mean of independent shares; weights need not add up to 1."""
    total = sum(weight for weight, _ in parts)
    share = sum(weight * part.share for weight, part in parts) / total
    below = sqrt(sum((weight * (part.share - part.low)) ** 2 for weight, part in parts)) / total
    above = sqrt(sum((weight * (part.high - part.share)) ** 2 for weight, part in parts)) / total
    return Interval(share, max(0.0, share - below), min(1.0, share + above))
