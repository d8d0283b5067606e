"""Latencies and lengths of a run, from its records alone. No I/O.

Percentiles are LoadGen's: of n sorted values the one at index floor(n * p), so that our numbers and
its own can be compared to the nanosecond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.outcome import Outcome
from results.records import Records

Durations = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Five figures of one quantity, in the unit of its values."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Durations) -> Distribution | None:
        """None without values."""
        if len(values) == 0:
            return None
        ordered = np.sort(values)
        return cls(
            mean=float(ordered.mean()),
            p50=percentile(ordered, 50),
            p90=percentile(ordered, 90),
            p99=percentile(ordered, 99),
            max=float(ordered[-1]),
        )


def percentile(ordered: Durations, percent: float) -> float:
    """LoadGen's percentile of sorted values."""
    return float(ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)])


def succeeded(records: Records) -> Records:
    good: Records = records[records["outcome"] == Outcome.OK]
    return good


def ttft_ns(records: Records) -> Durations:
    """Time to first token from the scheduled time, of the queries that had one."""
    timed = records[records["first_token_ns"] > 0]
    return np.asarray(timed["first_token_ns"] - timed["due_ns"], np.int64)


def tpot_ns(records: Records) -> Durations:
    """Time per output token after the first: (done - first) / (n - 1)."""
    timed = records[(records["first_token_ns"] > 0) & (records["n_tokens"] > 1)]
    return np.asarray(
        (timed["done_ns"] - timed["first_token_ns"]) // (timed["n_tokens"].astype(np.int64) - 1),
        np.int64,
    )


def latency_ns(records: Records) -> Durations:
    """From the scheduled time to the end of the answer."""
    return np.asarray(records["done_ns"] - records["due_ns"], np.int64)


def send_delay_ns(records: Records) -> Durations:
    """How much later than scheduled requests were sent: the harness's own lateness in Server."""
    sent = records[records["sent_ns"] > 0]
    return np.asarray(sent["sent_ns"] - sent["due_ns"], np.int64)


def duration_ns(records: Records) -> int:
    """From the first due time to the last end."""
    return int(records["done_ns"].max() - records["due_ns"].min()) if len(records) else 0
