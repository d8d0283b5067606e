"""What each replica did, and how long it was idle at the end."""

from __future__ import annotations

import numpy as np
import pytest

from core.outcome import Outcome
from core.record import RECORD, UNASSIGNED_REPLICA, Completion
from results.records import Records
from results.replicas import Quantiles, replica_shares
from results.streams import draining, event_gaps_ns
from tests.results.accounts import DrainAccount, worker

S = 1_000_000_000
MS = 1_000_000
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


def test_runs_without_records() -> None:
    assert replica_shares(records(), URLS) == ()


def test_busy_is_the_time_with_a_query_open() -> None:
    """From 1 to 4 s three queries that overlap, one of them within another; then 6 to 7 s."""
    spans = [(1.0, 3.0), (1.5, 2.0), (2.5, 4.0), (6.0, 7.0)]
    packed = []
    for begin, end in spans:
        query = Completion(1, 0, START, sent_ns=START + int(begin * S), n_tokens=20)
        query.done_ns, query.replica, query.prompt_tokens = START + int(end * S), 1, 7
        packed.append(query.pack())
    never_sent = ended(1, 9, outcome=Outcome.REFUSED)
    (idle, busy, _) = replica_shares(records(*reversed(packed), unsent(never_sent)), URLS)
    assert (busy.busy_s, busy.tokens_per_s) == (4.0, 20.0)
    assert (busy.tokens, busy.prompt_tokens, busy.failed) == (80, 28, 1)
    assert busy.token_latency_ns == Quantiles(S * 0.075, S * 0.1)  # 25, 50, 75 and 100 ms
    assert (idle.busy_s, idle.tokens_per_s, idle.token_latency_ns) == (0.0, None, None)


def unsent(packed: bytes) -> bytes:
    found = records(packed).copy()
    found["sent_ns"] = 0
    return found.tobytes()


def test_times_of_streams() -> None:
    packed = []
    for i in range(100):
        query = Completion(i, 0, START, sent_ns=START, n_tokens=11)
        query.first_token_ns = START + (i + 1) * MS
        query.done_ns = query.first_token_ns + 10 * (i + 1) * MS
        query.replica = 2
        packed.append(query.pack())
    found = replica_shares(records(*packed), URLS)[2]
    assert found.ttft_ns == found.tpot_ns == Quantiles(51 * MS, 100 * MS)
    assert found.token_latency_ns is None  # it would say the same once more


def test_hosts_are_nodes() -> None:
    urls = ("http://a:1", "http://10.0.0.7:30000", "http://[::1]:5")
    found = replica_shares(records(ended(0, 1)), urls)
    assert [share.node for share in found] == ["a", "10.0.0.7", "::1"]


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
