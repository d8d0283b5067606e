"""What each replica did, and how long it was idle at the end."""

from __future__ import annotations

import numpy as np
import pytest

from core.outcome import Outcome
from core.record import RECORD, UNASSIGNED_REPLICA, Completion
from results.records import Records
from results.replicas import replica_shares, token_excess
from results.streams import draining, event_gaps_ns
from tests.results.accounts import DrainAccount, worker

S = 1_000_000_000
START = 5 * S


def ended(replica: int, second: float, tokens: int = 10, outcome: Outcome = Outcome.OK) -> bytes:
    done_ns = START + int(second * S)
    query = Completion(1, 0, START, sent_ns=START, done_ns=done_ns, n_tokens=tokens)
    query.replica, query.outcome = replica, outcome
    return query.pack()


def records(*packed: bytes) -> Records:
    return np.frombuffer(b"".join(packed), RECORD)


URLS = ("http://a:1", "http://b:1", "http://c:1")


def test_tails_and_shares() -> None:
    found = replica_shares(
        records(
            ended(0, 4, tokens=100),
            ended(0, 10, tokens=20),
            ended(1, 7.5, tokens=60),
            ended(1, 2, tokens=7, outcome=Outcome.HTTP_ERROR),
            ended(UNASSIGNED_REPLICA, 1, tokens=0, outcome=Outcome.NO_REPLICA),
        ),
        URLS,
    )
    assert [share.url for share in found] == list(URLS)
    assert [(share.ok, share.failed) for share in found] == [(2, 0), (1, 1), (0, 0)]
    assert [share.tokens for share in found] == [120, 60, 0]  # failed ones count for nothing
    assert [share.last_end_s for share in found] == [10.0, 7.5, None]
    assert [share.idle_tail_s for share in found] == [0.0, 2.5, 10.0]
    assert [share.open_elsewhere for share in found] == [0, 1, 5]
    assert token_excess(found) == pytest.approx(1.0)  # 120 against a mean of 60


def test_runs_without_records_or_tokens() -> None:
    assert replica_shares(records(), URLS) == ()
    assert token_excess(()) is None
    broken = replica_shares(records(ended(0, 1, outcome=Outcome.EMPTY)), URLS)
    assert token_excess(broken) is None


def test_balanced_replicas_have_no_excess() -> None:
    found = replica_shares(records(ended(0, 1), ended(1, 1), ended(2, 1)), URLS)
    assert token_excess(found) == 0.0
    assert all(share.idle_tail_s == 0.0 for share in found)


def test_draining_is_summed_over_workers() -> None:
    one = DrainAccount(100, 300, 5_000_000, ends=3, end_wait_sum_ns=9, end_wait_max_ns=5)
    two = DrainAccount(0, 100, 4_000_000, ends=1, end_wait_sum_ns=7, end_wait_max_ns=7)
    found = draining((worker(0, drain=one), worker(1, drain=two), worker(2)), n_streams=8)
    assert found is not None
    assert (found.period_ns, found.reads_share, found.ends_share) == (5_000_000, 0.8, 0.5)
    assert (found.end_wait_mean_ns, found.end_wait_max_ns) == (4.0, 7)


def test_a_drain_that_had_nothing_to_do_is_not_shown() -> None:
    idle = DrainAccount(100, 0, 5_000_000, ends=0, end_wait_sum_ns=0, end_wait_max_ns=0)
    assert draining((worker(0, drain=idle),), n_streams=8) is None
    assert draining((), n_streams=0) is None


def test_gaps_are_of_all_workers() -> None:
    found = event_gaps_ns((worker(0, gaps=(10_000_000,) * 90), worker(1, gaps=(80_000_000,) * 10)))
    assert found["p50"] == pytest.approx(10_000_000, rel=0.025)
    assert found["p99"] == pytest.approx(80_000_000, rel=0.025)
    assert event_gaps_ns(()) == {"p50": None, "p90": None, "p99": None}
