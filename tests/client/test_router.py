"""Where the next query goes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from backends.detect import Address
from client.router import MAX_STRIKES, Replica, Router, start
from core.config import Routing


def router(*limits: int, routing: Routing = "least-tokens", first: int = 0) -> Router:
    address = Address("http://h:1", "h", "127.0.0.1", 1)
    return Router([Replica(i, address, limit) for i, limit in enumerate(limits)], routing, first)


def send(router: Router, weight: float = 1.0) -> int | None:
    replica = router.choose()
    if replica is None:
        return None
    router.begin(replica, weight)
    return replica.number


def test_the_fewest_outstanding_tokens() -> None:
    found = router(9, 9, 9)
    weights = [100.0, 10.0, 50.0]
    assert [send(found, weight) for weight in weights] == [0, 1, 2]
    assert [send(found, 30.0) for _ in range(4)] == [1, 1, 2, 1]  # 10, 40, 50, then 70 of 100
    found.end(found.replicas[0], 100.0)
    assert send(found) == 0


def test_many_short_ones_weigh_as_much_as_one_long_one() -> None:
    found = router(1000, 1000)
    assert send(found, 100.0) == 0
    assert [send(found, 1.0) for _ in range(100)] == [1] * 100


@pytest.mark.parametrize("routing", ["least-tokens", "round-robin"])
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_equals_take_turns(routing: Routing, first: int) -> None:
    found = router(9, 9, 9, routing=routing, first=first)
    order = [(start(first, 3) + i) % 3 for i in range(9)]
    assert [send(found) for _ in range(9)] == order


def test_equals_take_turns_when_each_query_ends_before_the_next() -> None:
    found = router(9, 9, 9)
    seen = []
    for _ in range(9):
        replica = found.choose()
        assert replica is not None
        found.begin(replica, 5.0)
        found.end(replica, 5.0)
        seen.append(replica.number)
    assert seen == [0, 1, 2] * 3


def test_round_robin_does_not_look_at_tokens() -> None:
    found = router(9, 9, routing="round-robin")
    assert [send(found, weight) for weight in (1000.0, 1.0, 1000.0, 1.0)] == [0, 1, 0, 1]


@pytest.mark.parametrize("routing", ["least-tokens", "round-robin"])
@pytest.mark.parametrize("limits", [(3,), (3, 1, 2)])
def test_limits_are_kept(routing: Routing, limits: tuple[int, ...]) -> None:
    found = router(*limits, routing=routing)
    sent = [send(found) for _ in range(sum(limits))]
    assert Counter(sent) == dict(enumerate(limits))
    assert send(found) is None and found.alive


@pytest.mark.parametrize("others", [(), (0,)])
def test_a_limit_that_sinks_below_what_is_open(others: tuple[int, ...]) -> None:
    found = router(4, *others)
    for _ in range(4):
        send(found)
    replica = found.replicas[0]
    replica.limit = 2
    for still_open in (3, 2):
        found.end(replica, 1.0)
        assert replica.open == still_open and send(found) is None
    found.end(replica, 1.0)
    assert send(found) == 0 and send(found) is None


@pytest.mark.parametrize("n", [1, 3])
def test_a_replica_that_was_taken_out_gets_nothing(n: int) -> None:
    found = router(*[9] * n)
    found.replicas[0].take_out("first reason")
    found.replicas[0].take_out("second reason")
    assert found.replicas[0].out_reason == "first reason"
    assert found.alive == (n > 1)
    assert {send(found) for _ in range(10)} == ({1, 2} if n > 1 else {None})


def test_failures_in_a_row_take_a_replica_out() -> None:
    found = router(9, 9)
    replica = found.replicas[1]
    for _ in range(MAX_STRIKES - 1):
        replica.strike("silence")
    assert replica.out_reason is None
    replica.strike("silence")
    assert replica.out_reason == f"{MAX_STRIKES} failures in a row, the last one: silence"
    assert {send(found) for _ in range(9)} == {0}


@pytest.mark.parametrize("n_workers", [2, 3, 4, 8, 16])
def test_workers_begin_far_from_each_other(n_workers: int) -> None:
    """Beside each other, all workers' first queries would meet at the same few replicas."""
    starts = sorted(start(worker, 64) for worker in range(n_workers))
    gaps = [b - a for a, b in pairwise([*starts, starts[0] + 64])]
    assert min(gaps) >= 64 / n_workers / 2 - 1
    assert start(0, 64) == 0 and {start(worker, 1) for worker in range(9)} == {0}


def test_rounding_leaves_nothing_at_an_idle_replica() -> None:
    """0.1 + 0.2 - 0.1 - 0.2 is not 0, and a remainder below 0 would win every tie."""
    found = router(9, 9, 9)
    for replica in found.replicas:
        for weight in (0.1, 0.2, 0.3 * (1 + replica.number)):
            found.begin(replica, weight)
        for weight in (0.1, 0.2, 0.3 * (1 + replica.number)):
            found.end(replica, weight)
    assert [replica.outstanding_tokens for replica in found.replicas] == [0.0] * 3


@pytest.mark.parametrize("limits", [(10**6,) * 5, (2, 1, 10**6, 3, 2)])
def test_the_choice_is_that_of_a_plain_search(limits: tuple[int, ...]) -> None:
    """Whether or not somebody is full: the shortcut changes no choice."""
    random, found, held = Random(3), router(*limits), list[tuple[Replica, float]]()
    waited = list(found.replicas)  # longest first
    for _ in range(2000):
        free = [r for r in waited if r.open < r.limit]
        expected = min(free, key=lambda r: r.outstanding_tokens)
        replica, weight = found.choose(), float(random.randint(1, 9))
        assert replica is expected
        waited.remove(replica)
        waited.append(replica)
        found.begin(replica, weight)
        held.append((replica, weight))
        while len(held) > random.randint(0, 12):
            found.end(*held.pop(random.randrange(len(held))))
