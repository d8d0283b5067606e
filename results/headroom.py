"""Was the harness the bottleneck? Judged from its processes' accounts and from how late it sent.

A load generator at its limit measures itself, and nothing in its latencies says so: the engine just
looks slower. So every run is judged by two rules that do not need a second run. They err towards
marking: a process over 80 % of a core leaves bursts waiting, and a query that is sent late has lost
that time from its TTFT.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.account import ProcessAccount, WorkerAccount
from core.histogram import histogram_percentile
from results.latency import Distribution

MAX_BUSY = 0.80  # of a core; LoadGen's process has threads, but only one of them runs Python
MAX_LATENESS = 0.01  # of the TTFT limit, at p99
WINDOW_S = 10
# Below this a second of starting up is a large part of a share, and a p99 is the one slowest query.
# It hides nothing: a run by MLPerf's rules takes ten minutes.
MIN_TEST_S = 2.0


@dataclass(frozen=True, slots=True)
class ProcessLoad:
    """How busy one process was, in shares of one core, and for how long it made others wait."""

    name: str
    cpu_s: float
    mean_busy: float
    peak_busy: float  # in its busiest seconds, `Headroom.window_s` of them
    turn_p99_ns: float | None
    turn_max_ns: float | None

    @classmethod
    def of(cls, account: ProcessAccount, window_s: int) -> ProcessLoad:
        mean = account.cpu_s / account.wall_s if account.wall_s else 0.0
        stalls = np.array(account.stall_counts, np.int64)
        return cls(
            account.name,
            account.cpu_s,
            round(mean, 4),
            round(_peak(account.busy, window_s, mean), 4),
            histogram_percentile(stalls, 99),
            histogram_percentile(stalls, 100),
        )


@dataclass(frozen=True, slots=True)
class Lateness:
    """By how much later than scheduled queries were sent, and what their p99 may be."""

    p50_ns: float
    p99_ns: float
    max_ns: float
    limit_ns: float


@dataclass(frozen=True, slots=True)
class Headroom:
    """What was left of the harness's own capacity."""

    limited: (
        bool | None
    )  # the harness was the bottleneck; None: could not be judged, see `unjudged`
    reasons: tuple[str, ...]  # why it was, each with its remedy
    unjudged: str | None
    window_s: int  # ten, or as many as the test had
    processes: tuple[ProcessLoad, ...]  # LoadGen's first, then the workers
    lateness: Lateness | None  # None where nothing is scheduled

    @property
    def busiest(self) -> ProcessLoad:
        return max(self.processes, key=lambda process: process.peak_busy)


def judge_headroom(
    workers: tuple[WorkerAccount, ...],
    loadgen: ProcessAccount,
    send_delay: Distribution | None,
    ttft_limit_ns: int,
    test_s: float,
    *,
    n_workers: int,
    max_concurrency: int | None,
    by_answers: bool,
) -> Headroom:
    """Apply the rules to a test that took `test_s`.

    `send_delay`: None where nothing is scheduled. `n_workers`: how many there were, also those that
    gave no account. `by_answers`: an accuracy run or a compliance test, whose worth is that of its
    answers, however long they took.
    """
    window_s = min(WINDOW_S, int(test_s))
    main = ProcessLoad.of(loadgen, window_s)
    loads = tuple(ProcessLoad.of(worker.process, window_s) for worker in workers)
    lateness = None if send_delay is None else _lateness(send_delay, ttft_limit_ns)
    reasons: tuple[str, ...] = ()
    unjudged = _unjudged(test_s, by_answers)
    if unjudged is None:
        remedies = _remedies(workers, n_workers, streamed=lateness is not None)
        reasons = (
            *_busy_workers(loads, n_workers, window_s, remedies),
            *_busy_loadgen(main, window_s),
            *_late(lateness, max_concurrency),
        )
        if not reasons and len(workers) < n_workers:
            unjudged = "a worker gave no account of itself"
    limited = None if unjudged else bool(reasons)
    return Headroom(limited, reasons, unjudged, window_s, (main, *loads), lateness)


def _peak(busy: tuple[float, ...], window_s: int, mean: float) -> float:
    """The highest rolling mean. A process lives longer than a short test, so its mean says less."""
    if window_s < 1 or len(busy) < window_s:
        return mean
    return float(np.convolve(busy, np.full(window_s, 1 / window_s), "valid").max())


def _lateness(send_delay: Distribution, ttft_limit_ns: int) -> Lateness:
    limit_ns = ttft_limit_ns * MAX_LATENESS
    return Lateness(send_delay.p50, send_delay.p99, send_delay.max, limit_ns)


def _unjudged(test_s: float, by_answers: bool) -> str | None:
    if by_answers:
        return "this run is about its answers"
    if test_s < MIN_TEST_S:
        return f"the test took less than {MIN_TEST_S:g} s"
    return None


def _remedies(workers: tuple[WorkerAccount, ...], n_workers: int, *, streamed: bool) -> str:
    """What makes a worker less busy."""
    found = [f"--num-workers {n_workers + 1} (with a core for it)"]
    if streamed:
        found.append("a larger stream interval on the engine")
        if not any(worker.drain.period_ns for worker in workers):
            found.append("--drain auto")
    return " or ".join(found)


def _busy_workers(
    loads: tuple[ProcessLoad, ...], n_workers: int, window_s: int, remedies: str
) -> Iterator[str]:
    busy = [load for load in loads if load.peak_busy > MAX_BUSY]
    if busy:
        worst = max(busy, key=lambda load: load.peak_busy)
        many = f" ({len(busy)} of {n_workers} workers did)" if len(busy) > 1 else ""
        yield f"{_was_busy(worst, window_s)}{many}: {remedies}"


def _busy_loadgen(main: ProcessLoad, window_s: int) -> Iterator[str]:
    # LoadGen's side is work for each query, not for each event, and one process by its nature.
    if main.peak_busy > MAX_BUSY:
        yield f"{_was_busy(main, window_s)}: faster cores, or less other load on this machine"


def _was_busy(load: ProcessLoad, window_s: int) -> str:
    return (
        f"{load.name} used {100 * load.peak_busy:.0f} % of a core in its busiest {window_s} s, "
        f"more than {100 * MAX_BUSY:.0f} %"
    )


def _late(lateness: Lateness | None, max_concurrency: int | None) -> Iterator[str]:
    if lateness is None or lateness.p99_ns <= lateness.limit_ns:
        return
    remedy = "less other load on this machine, or more cores"
    if max_concurrency is not None:
        remedy = f"without --max-concurrency {max_concurrency}, which makes queries wait; {remedy}"
    yield (
        f"queries were sent {lateness.p99_ns / 1e6:,.1f} ms late at p99, more than "
        f"{lateness.limit_ns / 1e6:,.1f} ms (1 % of the TTFT limit): {remedy}"
    )
