"""How far requests alone explain a difference between two results: a bootstrap. No I/O.

Requests are drawn again with replacement, and each figure is taken anew from what was drawn. Latencies
are those of the requests. The throughput of a draw follows from Little's law: with a fixed number of
requests in flight, a request takes E2EL / CONC of the run's time, so that throughput is tokens /
(sum of E2EL / CONC). What the law leaves out, the ramp-up and the tail, is taken from the measured
figure: a draw says by how much it differs from all requests, and the measured figure moves by that.

Where both sides were sent the same prompts, the same ones are drawn on both sides: what the prompts,
and their turn, have done to both is then no part of the difference.

Draws take requests as independent. Those in flight together are not quite: intervals are, if anything,
too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from results.records import Records

RESAMPLES = 2000
SEED = 0
LEVEL = 95  # percent
FEWEST = 8  # requests; the spread of fewer says little about that of all there could be
CHUNK = 4_000_000  # drawn requests in memory at once

Values = npt.NDArray[np.float64]
Picks = npt.NDArray[np.int64]  # one row of requests for each draw


@dataclass(frozen=True, slots=True)
class Requests:
    """What the figures are made of: one value for each request, times in ms."""

    ttft: Values
    tpot: Values
    e2el: Values
    tokens: Values  # in and out
    outputs: Values

    def __len__(self) -> int:
        return len(self.e2el)


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def requests_of(records: Records) -> Requests:
    """records: of requests that succeeded."""
    sent, first, done = (
        records[name].astype(np.float64) / 1e6 for name in ("sent_ns", "first_token_ns", "done_ns")
    )
    outputs = records["n_tokens"].astype(np.float64)
    return Requests(
        ttft=first - sent,
        tpot=(done - first) / np.maximum(outputs - 1, 1),
        e2el=done - sent,
        tokens=records["prompt_tokens"] + outputs,
        outputs=outputs,
    )


def _throughput(tokens: Values, e2el: Values) -> Values:
    return np.asarray(tokens.sum(axis=1) / e2el.sum(axis=1))


def _median(values: Values) -> Values:
    return np.asarray(np.median(values, axis=1))


def _p99(values: Values) -> Values:
    return np.asarray(np.percentile(values, 99, axis=1))


FIGURES: Mapping[str, Callable[[Requests, Picks], Values]] = {  # by their names in a result file
    "tput_per_gpu": lambda whole, draw: _throughput(whole.tokens[draw], whole.e2el[draw]),
    "output_throughput": lambda whole, draw: _throughput(whole.outputs[draw], whole.e2el[draw]),
    "interactivity": lambda whole, draw: 1000 / _median(whole.tpot[draw]),
    "median_ttft_ms": lambda whole, draw: _median(whole.ttft[draw]),
    "median_tpot_ms": lambda whole, draw: _median(whole.tpot[draw]),
    "median_e2el_ms": lambda whole, draw: _median(whole.e2el[draw]),
    "p99_ttft_ms": lambda whole, draw: _p99(whole.ttft[draw]),
    "p99_e2el_ms": lambda whole, draw: _p99(whole.e2el[draw]),
}


def draw_ratios(
    a: Requests, b: Requests, *, paired: bool, seed: Sequence[int]
) -> dict[str, Values]:
    """For each figure its ratio B/A in every draw, as a part of the ratio of all requests."""
    random = np.random.default_rng((SEED, *seed))
    parts: dict[str, list[Values]] = {name: [] for name in FIGURES}
    step = max(1, CHUNK // max(len(a), len(b)))
    for begin in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - begin)
        of_a = random.integers(0, len(a), (size, len(a)))
        of_b = of_a if paired else random.integers(0, len(b), (size, len(b)))
        with np.errstate(divide="ignore", invalid="ignore"):  # not finite: `interval` gives none
            for name, figure in FIGURES.items():
                parts[name].append(_moved(figure, b, of_b) / _moved(figure, a, of_a))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _moved(figure: Callable[[Requests, Picks], Values], whole: Requests, draw: Picks) -> Values:
    """The figure of each draw as a part of that of all requests."""
    return np.asarray(figure(whole, draw) / figure(whole, np.arange(len(whole))[None, :]))


def interval(values: Values) -> Interval | None:
    """The middle LEVEL percent; None where a draw has no value."""
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, ((100 - LEVEL) / 2, (100 + LEVEL) / 2))
    return Interval(float(low), float(high))
