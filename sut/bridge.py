"""Between LoadGen's callbacks and the client: issue queries, complete them, never raise.

An exception that leaves a callback kills the process later, and a query that is never completed
hangs LoadGen for ever (both seen with 6.0.17). So `issue` catches everything, and whatever becomes of
a query, `_deliver` completes it. A failed query is completed with two tokens and no data: LoadGen
accepts nothing less, no token id is made up, and the failure itself makes the run's verdict FAILED.
"""

from __future__ import annotations

import ctypes
import threading
import traceback
from collections import Counter, deque
from collections.abc import Sequence
from time import monotonic_ns
from typing import TypeVar

import mlperf_loadgen as lg

from client.gaps import GapCounter
from client.pool import ClientPool
from client.process import Batch, Failure
from core.outcome import Outcome
from core.rules import MIN_ANSWER_TOKENS
from sut.schedule import Schedule

T = TypeVar("T")
TURNS_AT_ONCE = 4096  # counted together; one by one would cost as much as a turn
REASONS_KEPT = 3  # different reasons kept per outcome


class Bridge:
    """Owns the completion thread. `schedule` is None in Offline, where everything is due at once."""

    def __init__(self, pool: ClientPool, schedule: Schedule | None) -> None:
        self._pool = pool
        self._schedule = schedule
        self._start_ns = 0
        # Deques, because appending and popping from two threads needs no lock.
        self._records: deque[bytes] = deque()
        self._orphans: deque[int] = deque()  # ids of queries that LoadGen issues after the end
        self._cancelled = False
        self._stop = threading.Event()
        self._nothing = ctypes.create_string_buffer(8)  # what a failed query's empty data points at
        self._thread = threading.Thread(target=self._complete, name="completion", daemon=True)
        self.issued = 0
        self.done = 0
        self.tokens = 0
        self.failures: Counter[Outcome] = Counter()
        self.reasons: dict[Outcome, list[str]] = {}
        self.crash: str | None = None  # our own failure, if there was one
        self._turns = GapCounter()  # how long each delivery kept those behind it waiting

    # LoadGen's thread -----------------------------------------------------------------------------

    def issue(self, samples: Sequence[lg.QuerySample]) -> None:
        """LoadGen's issue callback."""
        try:
            ids = [sample.id for sample in samples]
            if self._cancelled:  # the run is over and LoadGen does not know: not a part of it
                self._orphans.extend(ids)
                return
            indexes = [sample.index for sample in samples]
            due_ns = self._due_ns()
            self.issued += len(ids)
            self._pool.submit(ids, indexes, due_ns)
        except BaseException:  # noqa: BLE001 - nothing may leave a LoadGen callback
            self.crash = traceback.format_exc()

    def flush(self) -> None:
        """LoadGen's flush callback: nothing is held back, so there is nothing to do."""

    def _due_ns(self) -> int:
        if self.issued == 0:
            self._start_ns = monotonic_ns()
        if self._schedule is None:
            return self._start_ns
        return self._start_ns + self._schedule.due_ns(self.issued)

    # The completion thread ------------------------------------------------------------------------

    def _complete(self) -> None:
        try:
            while not self._stop.is_set():
                for batch in self._pool.receive(0.05):
                    self._turn(batch)
                if self._orphans:
                    self._dismiss(_take_all(self._orphans))
        except BaseException:  # noqa: BLE001 - the main thread reports it and ends the run
            self.crash = traceback.format_exc()

    def _turn(self, batch: Batch) -> None:
        began_ns = monotonic_ns()
        self._deliver(batch)
        self._turns.add(monotonic_ns() - began_ns)
        if len(self._turns.pending) >= TURNS_AT_ONCE:
            self._turns.fold()

    def _deliver(self, batch: Batch) -> None:
        response = lg.QuerySampleResponse
        timed = self._schedule is not None
        firsts = [response(*answer) for answer in batch.firsts] if timed else []
        finals = [response(*answer) for answer in batch.finals]
        nothing = ctypes.addressof(self._nothing)
        for failure in batch.failures:
            self._note(failure)
            if timed and not failure.first_was_sent:
                firsts.append(response(failure.query_id, nothing, 0, 1))
            finals.append(response(failure.query_id, nothing, 0, MIN_ANSWER_TOKENS))
        self._records.extend(batch.records)
        self.tokens += batch.n_tokens
        if firsts:
            lg.FirstTokenComplete(firsts)
        if finals:
            lg.QuerySamplesComplete(finals)
            self.done += len(finals)

    def _dismiss(self, ids: Sequence[int]) -> None:
        """Complete queries that are no part of the run, so that LoadGen can end."""
        nothing, response = ctypes.addressof(self._nothing), lg.QuerySampleResponse
        if self._schedule is not None:
            lg.FirstTokenComplete([response(i, nothing, 0, 1) for i in ids])
        lg.QuerySamplesComplete([response(i, nothing, 0, MIN_ANSWER_TOKENS) for i in ids])

    def _note(self, failure: Failure) -> None:
        outcome = Outcome(failure.outcome)
        self.failures[outcome] += 1
        reasons = self.reasons.setdefault(outcome, [])
        if len(reasons) < REASONS_KEPT and failure.reason not in reasons:
            reasons.append(failure.reason)

    # The main thread ------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the completion thread; only after LoadGen has returned, or it crashes."""
        self._stop.set()
        self._thread.join()

    def cancel(self) -> None:
        """End every open query with CANCELLED; what LoadGen still issues is dismissed, uncounted."""
        self._cancelled = True
        self._pool.cancel()

    @property
    def turn_counts(self) -> tuple[int, ...]:
        """Deliveries by their duration (core.histogram); only after `stop`."""
        return tuple(self._turns.counts.tolist())

    def take_records(self) -> bytes:
        """The records (core.record.RECORD) of the queries that ended since the last call."""
        records: list[bytes] = _take_all(self._records)
        return b"".join(records)


def _take_all(items: deque[T]) -> list[T]:
    return [items.popleft() for _ in range(len(items))]
