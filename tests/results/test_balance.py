"""How even a run was, and who was slow."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from results.balance import MIN_QUERIES, balance, stragglers
from results.replicas import Quantiles, ReplicaShare

MS = 1e6


def share(
    number: int,
    tokens: int = 1000,
    tpot_ms: float | None = 5.0,
    rate: float | None = 100.0,
    node: str = "a",
    ok: int = MIN_QUERIES,
) -> ReplicaShare:
    return ReplicaShare(
        number=number,
        url=f"http://{node}:{number}",
        node=node,
        ok=ok,
        failed=0,
        tokens=tokens,
        prompt_tokens=2 * tokens,
        busy_s=10.0,
        tokens_per_s=rate,
        ttft_ns=None,
        tpot_ns=None if tpot_ms is None else Quantiles(tpot_ms * MS, 99 * MS),
        token_latency_ns=None,
        last_end_s=10.0,
        idle_tail_s=0.0,
        open_elsewhere=0,
    )


def paced(*tpots_ms: float) -> list[ReplicaShare]:
    return [share(i, tpot_ms=tpot) for i, tpot in enumerate(tpots_ms)]


def slow(shares: Sequence[ReplicaShare]) -> list[int]:
    return [one.number for one in stragglers(shares)]


def test_imbalance_is_about_the_mean() -> None:
    found = balance([share(0, 1100), share(1, 1000), share(2, 600)])
    assert found.tokens_above_mean == pytest.approx(1100 / 900 - 1)
    assert found.tokens_below_mean == pytest.approx(1 - 600 / 900)
    even = balance([share(i) for i in range(3)])
    assert (even.tokens_above_mean, even.tokens_below_mean) == (0.0, 0.0)


def test_no_tokens_have_no_imbalance() -> None:
    for shares in ([], [share(0, tokens=0, rate=None, ok=0)]):
        found = balance(shares)
        assert found.tokens_above_mean is None and found.tokens_below_mean is None
        assert found.stragglers == ()


def test_a_slow_one_among_many() -> None:
    shares = paced(*(5 + 0.01 * (i % 7) for i in range(63)), 6.9)
    (found,) = stragglers(shares)
    assert (found.number, found.measure) == (63, "tpot")
    assert found.slower == pytest.approx(6.9 / 5.03 - 1, abs=0.01)


@pytest.mark.parametrize(("tpot_ms", "named"), [(5.4, []), (5.6, [2])])
def test_a_tenth_slower_is_the_limit(tpot_ms: float, named: list[int]) -> None:
    assert slow(paced(5, 5, tpot_ms, 5)) == named


@pytest.mark.parametrize(
    ("tpots_ms", "named"), [((5,), []), ((5, 7), [1]), ((7, 5, 5), [0]), ((5, 7, 5, 8), [3, 1])]
)
def test_few_replicas(tpots_ms: tuple[float, ...], named: list[int]) -> None:
    assert slow(paced(*tpots_ms)) == named


def test_where_all_differ_nobody_stands_out() -> None:
    """The slowest is half as slow again as the median, and that is usual here."""
    assert slow(paced(*(4 + 0.4 * i for i in range(11)))) == []


def test_a_whole_slow_node_is_named() -> None:
    shares = paced(*[5.0] * 48, *[6.0] * 16)
    assert slow(shares) == list(range(48, 64))


def test_few_queries_are_no_pace() -> None:
    shares = [*paced(5, 5, 5), share(3, tpot_ms=9, ok=MIN_QUERIES - 1)]
    assert slow(shares) == []


@pytest.mark.parametrize(
    ("tpots_ms", "named"), [((0, 5), []), ((0, 0, 5), []), ((5, 5, 0, 7), [3]), ((0, 0, 0), [])]
)
def test_tokens_that_arrive_all_at_once_are_no_pace(
    tpots_ms: tuple[float, ...], named: list[int]
) -> None:
    """A client on a busy machine: nothing can be a multiple of no time at all."""
    assert slow(paced(*tpots_ms)) == named


def test_offline_goes_by_tokens_in_a_second_of_work() -> None:
    shares = [share(i, tpot_ms=None, rate=100) for i in range(4)]
    shares.append(share(4, tpot_ms=None, rate=80))
    shares.append(share(5, tokens=0, tpot_ms=None, rate=None, ok=0))  # unused: not slow
    (found,) = stragglers(shares)
    assert (found.number, found.measure) == (4, "tokens_per_s")
    assert found.slower == pytest.approx(0.25)


def test_nodes_are_sums() -> None:
    shares = [share(i, 1000 + i, node="ab"[i // 3], tpot_ms=9 if i == 5 else 5) for i in range(6)]
    first, second = balance(shares).nodes
    assert (first.node, first.replicas, first.tokens, first.stragglers) == ("a", 3, 3003, 0)
    assert (second.node, second.replicas, second.tokens, second.stragglers) == ("b", 3, 3012, 1)
    assert (second.ok, second.prompt_tokens, second.tokens_per_s) == (60, 6024, 300.0)
