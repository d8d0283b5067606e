"""Accounts of processes as tests want them: calm, but for what a test names."""

from __future__ import annotations

import numpy as np

from core.account import DrainAccount, ProcessAccount, WorkerAccount
from core.histogram import N_BINS, count_durations

NO_DRAIN = DrainAccount(
    reads=0, drained_reads=0, period_ns=0, ends=0, end_wait_sum_ns=0, end_wait_max_ns=0
)


def counts(*durations_ns: int) -> tuple[int, ...]:
    """core.histogram of these durations."""
    if not durations_ns:
        return (0,) * N_BINS
    return tuple(count_durations(np.array(durations_ns, np.int64)).tolist())


def process(
    name: str, busy: tuple[float, ...] = (0.1,) * 20, stalls: tuple[int, ...] = ()
) -> ProcessAccount:
    return ProcessAccount(name, sum(busy), float(len(busy)), busy, counts(*stalls))


def worker(
    number: int = 0,
    busy: tuple[float, ...] = (0.1,) * 20,
    stalls: tuple[int, ...] = (),
    gaps: tuple[int, ...] = (),
    drain: DrainAccount = NO_DRAIN,
) -> WorkerAccount:
    return WorkerAccount(process(f"worker {number}", busy, stalls), counts(*gaps), drain, {})
