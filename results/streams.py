"""How the streams of a run were read: the gaps between their events, and what draining cost.

A drained stream is looked at every few milliseconds, so it has no arrival times between its first
token and its end: ITL by event is of the other reads alone, and the end was seen a little late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.account import WorkerAccount
from core.histogram import N_BINS, histogram_percentile


@dataclass(frozen=True, slots=True)
class Draining:
    """What the drain did, over all workers. The waits are upper bounds."""

    period_ns: int  # the longest that two looks at a stream are planned apart; they may come late
    reads_share: float  # of the reads that brought bytes
    ends_share: float  # of the streams
    end_wait_mean_ns: float  # by how much later than it arrived an end was seen
    end_wait_max_ns: int


def gap_counts(workers: tuple[WorkerAccount, ...]) -> npt.NDArray[np.int64]:
    """The gaps between two arrivals in one stream, over all streams: core.histogram's counts."""
    counts = np.zeros(N_BINS, np.int64)
    for worker in workers:
        counts += np.array(worker.gap_counts, np.int64)
    return counts


def event_gaps_ns(workers: tuple[WorkerAccount, ...]) -> dict[str, float | None]:
    """p50, p90 and p99 of the time between two arrivals in one stream."""
    counts = gap_counts(workers)
    return {f"p{percent}": histogram_percentile(counts, percent) for percent in (50, 90, 99)}


def draining(workers: tuple[WorkerAccount, ...], n_streams: int) -> Draining | None:
    """None where nothing was drained. `n_streams` are the streams whose first token came."""
    drains = [worker.drain for worker in workers]
    drained = sum(drain.drained_reads for drain in drains)
    ends = sum(drain.ends for drain in drains)
    if not drained and not ends:
        return None
    reads = drained + sum(drain.reads for drain in drains)
    return Draining(
        period_ns=max(drain.period_ns for drain in drains),
        reads_share=drained / reads if reads else 0.0,
        ends_share=ends / n_streams if n_streams else 0.0,
        end_wait_mean_ns=sum(drain.end_wait_sum_ns for drain in drains) / ends if ends else 0.0,
        end_wait_max_ns=max(drain.end_wait_max_ns for drain in drains),
    )
