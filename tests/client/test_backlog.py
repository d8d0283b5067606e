"""Offline's queue: who gets what, and that nothing is ever lost or given twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.backlog import AHEAD, PORTION, Backlog
from client.pool import share
from client.process import WorkerProcess

DUE_NS = 77


@dataclass
class Worker:
    """As much of a client.process.WorkerProcess as the queue uses."""

    breaks: bool = False  # with the next write to it
    open: dict[int, tuple[int, int]] = field(default_factory=dict)
    lost: bool = False
    got: list[int] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)

    def submit(self, query_ids: Sequence[int], indexes: Sequence[int], due_ns: int) -> None:
        assert due_ns == DUE_NS and not self.lost
        self.open.update({i: (index, due_ns) for i, index in zip(query_ids, indexes, strict=True)})
        self.got += query_ids
        self.writes.append(len(query_ids))
        self.lost = self.breaks

    def end(self, n: int) -> None:
        for query_id in list(self.open)[:n]:
            del self.open[query_id]


def backlog(lengths: Sequence[int]) -> Backlog:
    """Query 1000 + i is for row i."""
    found = Backlog(np.array(lengths, np.int32))
    found.put([1000 + i for i in range(len(lengths))], list(range(len(lengths))), DUE_NS)
    return found


def fill(found: Backlog, workers: Sequence[Worker], limits: Sequence[int]) -> None:
    found.fill(cast(Sequence[WorkerProcess], workers), limits)


def ahead(limit: int) -> int:
    return limit + max(1, limit // AHEAD)


def step(limit: int) -> int:
    """As few as are handed out at once."""
    return min(PORTION, max(1, limit // AHEAD))


def test_the_longest_go_first_and_equals_in_the_order_they_came() -> None:
    found, worker = backlog([5, 9, 1, 9, 7, 5]), Worker()
    fill(found, [worker], [100])
    assert worker.got == [1001, 1003, 1004, 1000, 1005, 1002]
    assert worker.open[1001] == (1, DUE_NS)
    assert len(found) == 0


def test_rows_that_are_asked_for_twice() -> None:
    found, worker = Backlog(np.array([3, 8], np.int32)), Worker()
    found.put([1, 2, 3, 4], [0, 1, 0, 1], DUE_NS)
    fill(found, [worker], [100])
    assert worker.got == [2, 4, 1, 3]
    assert [worker.open[i][0] for i in worker.got] == [1, 1, 0, 0]


@pytest.mark.parametrize("limit", [1, 2, 16, 100, 1000])
def test_a_worker_holds_its_limit_and_a_little(limit: int) -> None:
    found, worker = backlog([1] * 3000), Worker()
    fill(found, [worker], [limit])
    assert ahead(limit) - step(limit) < len(worker.open) <= ahead(limit)
    assert max(worker.writes) <= PORTION
    given_out, room = len(worker.got), ahead(limit) - len(worker.open)
    worker.end(step(limit) - room - 1)
    fill(found, [worker], [limit])
    assert len(worker.got) == given_out  # so few are not worth a write
    worker.end(1)
    fill(found, [worker], [limit])
    assert len(worker.got) == given_out + step(limit)


def test_workers_share_and_none_waits_for_another() -> None:
    """Portions go round, so that the longest prompts are spread."""
    found, workers = backlog(list(range(3 * PORTION, 0, -1))), [Worker(), Worker(), Worker()]
    fill(found, workers, [1000, 1000, 1000])
    assert [worker.writes for worker in workers] == [[PORTION]] * 3
    assert workers[0].got[0] == 1000 and workers[1].got[0] == 1000 + PORTION


def test_a_full_worker_gets_nothing_and_holds_up_nobody() -> None:
    found, (full, free) = backlog([1] * 100), (Worker(), Worker())
    fill(found, [full], [10])
    assert len(full.open) == 11
    fill(found, [full, free], [10, 20])
    assert (len(full.open), len(free.open), len(found)) == (11, 21, 68)


def test_a_limit_that_sinks_below_what_is_open() -> None:
    found, worker = backlog([1] * 500), Worker()
    fill(found, [worker], [100])
    before = len(worker.open)
    for _ in range(before - 20):
        fill(found, [worker], [20])
        assert len(worker.got) == before
        worker.end(1)
    worker.end(2)
    fill(found, [worker], [20])
    assert len(worker.got) > before and len(worker.open) <= ahead(20)


def test_a_lost_worker_gets_nothing_more() -> None:
    found, (breaks, lives) = backlog([1] * 500), (Worker(breaks=True), Worker())
    fill(found, [breaks, lives], [100, 100])
    assert breaks.writes == [PORTION]
    assert len(lives.open) == ahead(100)
    fill(found, [breaks], [100])
    assert breaks.writes == [PORTION]
    assert len(found) == 500 - PORTION - ahead(100)


def test_take_all_is_what_nobody_has_got() -> None:
    found, worker = backlog([3, 1, 2] * 10), Worker()
    fill(found, [worker], [10])
    left = found.take_all()
    assert len(found) == 0 and found.take_all() == []
    assert {query_id for query_id, _, _ in left} == set(range(1000, 1030)) - set(worker.got)
    assert all((index, due_ns) == (i - 1000, DUE_NS) for i, index, due_ns in left)
    fill(found, [worker], [1000])
    assert len(worker.got) == 11


def test_a_second_put_loses_nothing() -> None:
    found, worker = backlog([1] * 20), Worker()
    fill(found, [worker], [4])
    found.put([1, 2], [0, 1], DUE_NS)
    assert len(found) == 17
    fill(found, [worker], [100])
    assert sorted(worker.got) == [1, 2, *range(1000, 1020)]


@given(
    n=st.integers(1, 400),
    limits=st.lists(st.integers(1, 120), min_size=1, max_size=4),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=60),
)
def test_every_query_goes_to_one_worker_once(
    n: int, limits: list[int], steps: list[tuple[int, int]]
) -> None:
    found, workers = backlog([i * 7919 % 101 for i in range(n)]), [Worker() for _ in limits]
    for number, ended in steps:
        fill(found, workers, limits)
        assert all(len(w.open) <= ahead(limit) for w, limit in zip(workers, limits, strict=True))
        # While some are left, every worker has as many as it may send: its replicas are full.
        assert len(found) == 0 or all(
            len(w.open) + step(limit) > ahead(limit)
            for w, limit in zip(workers, limits, strict=True)
        )
        workers[number % len(workers)].end(ended)
    given_out = [query_id for worker in workers for query_id in worker.got]
    left = [query_id for query_id, _, _ in found.take_all()]
    assert sorted(given_out + left) == list(range(1000, 1000 + n))


@given(total=st.integers(0, 10_000), n=st.integers(1, 70))
def test_shares_add_up_and_are_equal_but_for_one(total: int, n: int) -> None:
    shares = [share(total, n, i) for i in range(n)]
    assert min(shares) >= 1 and max(shares) - min(shares) <= 1
    assert sum(shares) == max(total, n)
