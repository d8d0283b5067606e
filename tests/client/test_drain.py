"""Draining on real sockets and an invented clock: who leaves the loop, when ends are found, who
comes back; and that no stream is lost or found twice, whatever happens to it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from client.drain import (
    AGE_SHARE,
    MAX_EMPTY_LOOKS,
    MAX_PERIOD_NS,
    MS,
    OFF_BELOW,
    ON_ABOVE,
    RECHECK_NS,
    TICK_NS,
)
from client.overdue import overdue
from core.config import Timeouts
from core.outcome import Outcome
from tests.client.streams import HEAD, Client, Stream, TurnedReactor, chunk, ending, event

S = 1000 * MS
MakeClient = Callable[[float | None], Client]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeClient]:
    """Makes clients; at the end, nothing may be left on their wheels."""
    clients: list[Client] = []

    def make(drain_ms: float | None) -> Client:
        clients.append(Client(TurnedReactor(monkeypatch), drain_ms))
        return clients[-1]

    yield make
    for client in clients:
        client.reactor.advance(2 * S)
        client.close()
        assert client.drain._streams == 0 and client.drain._tick == 0
        assert not any(client.drain._wheel)


@pytest.mark.parametrize("period_ms", [1, 2, 5, 50, 333])
def test_an_end_is_found_at_most_a_period_late(make: MakeClient, period_ms: float) -> None:
    client = make(period_ms)
    period_ns = max(int(period_ms * MS), TICK_NS)
    streams = [client.stream() for _ in range(40)]
    for i, stream in enumerate(streams):
        stream.answer(100 + 7 * i, 3 * MS + i * 1013, start_ns=i * 1_234_567)
    client.reactor.advance(3 * S)
    assert len(client.done) == len(streams) and not client.failures
    for i, stream in enumerate(streams):
        assert stream.ids == list(range(100 + 7 * i))
        assert stream.exchange.drained
        assert 0 <= stream.late_ns <= period_ns
        assert stream.in_loop  # the connection waits for its next request
    account = client.drain.account(0)
    assert account.ends == len(streams)
    assert max(s.late_ns for s in streams) <= account.end_wait_max_ns <= period_ns
    assert account.end_wait_sum_ns >= sum(s.late_ns for s in streams)
    assert account.period_ns == int(period_ms * MS)


def test_first_tokens_and_all_reads_are_the_loops_where_draining_is_off(make: MakeClient) -> None:
    client = make(0)
    stream = client.stream()
    stream.answer(500, 5 * MS)
    client.reactor.advance(3 * S)
    assert stream.late_ns == 0 and stream.ids == list(range(500))
    assert not stream.exchange.drained and len(client.gaps) == 499
    assert client.drain.account(0).ends == client.drain.account(0).drained_reads == 0


def test_the_first_token_is_never_drained(make: MakeClient) -> None:
    client = make(50)
    stream = client.stream()
    stream.answer(10, 20 * MS, start_ns=123_456)
    sent_ns = client.reactor.now_ns + 123_456
    client.reactor.advance(S)
    assert client.firsts == [stream.exchange]
    assert stream.exchange.first_token_ns == sent_ns


def switched_on(make: MakeClient) -> Client:
    client = make(None)
    client.drain.adapt(ON_ABOVE + 1)
    return client


def test_auto_stays_within_a_hundredth_of_the_streams_age(make: MakeClient) -> None:
    client = switched_on(make)
    streams = [client.stream() for _ in range(60)]
    for i, stream in enumerate(streams):
        stream.answer(200 + 61 * i, 2 * MS + i * 1013, start_ns=i * 1_234_567)
    client.reactor.advance(12 * S)
    assert len(client.done) == len(streams)
    for i, stream in enumerate(streams):
        assert stream.ids == list(range(200 + 61 * i))
        age_ns = stream.ended_ns - stream.exchange.first_token_ns
        assert 0 <= stream.late_ns <= age_ns / AGE_SHARE
        if not S < age_ns < 1.1 * S:
            assert stream.exchange.drained == (age_ns > S)
    account = client.drain.account(0)
    assert 0 < account.end_wait_max_ns <= MAX_PERIOD_NS
    assert account.ends == sum(s.exchange.drained for s in streams)


def test_auto_waits_until_a_stream_is_a_second_old(make: MakeClient) -> None:
    client = switched_on(make)
    stream = client.stream()
    stream.answer(1000, 2 * MS)
    client.reactor.advance(S - MS)
    assert stream.in_loop
    client.reactor.advance(10 * MS)
    assert not stream.in_loop


def test_auto_leaves_slow_streams_in_the_loop(make: MakeClient) -> None:
    """Two events in a hundredth of the age: more than a token every five milliseconds at a second."""
    client = switched_on(make)
    fast, slow = client.stream(), client.stream()
    fast.answer(1000, 2 * MS)
    slow.answer(100, 30 * MS)
    client.reactor.advance(int(1.4 * S))
    assert (fast.in_loop, slow.in_loop) == (False, True)
    client.reactor.advance(3 * S)
    assert slow.late_ns == 0 and slow.ids == list(range(100))


@pytest.mark.parametrize("drain_ms", [None, 10])
def test_a_stream_that_has_become_slow_comes_back(make: MakeClient, drain_ms: float | None) -> None:
    client = make(drain_ms)
    client.drain.adapt(ON_ABOVE + 1)
    stream = client.stream()
    stream.send(HEAD + event(0))
    stream.continue_from(1, 1 << 30, client.reactor.now_ns + MS, MS)
    client.reactor.advance(int(1.5 * S))
    assert not stream.in_loop
    client.reactor._timers = [t for t in client.reactor._timers if t[2] == client.drain._turn]
    client.reactor.advance((MAX_EMPTY_LOOKS + 3) * 15 * MS)  # silence
    assert stream.in_loop and not stream.exchange.drained
    sent = 1501
    client.reactor.advance(RECHECK_NS // 2)
    stream.end(ending(sent, sent + 1))
    client.reactor.advance(0)
    assert stream.late_ns == 0
    assert stream.ids == list(range(sent + 1))
    assert client.drain.account(0).ends == 0


def test_a_stream_that_came_back_may_leave_again(make: MakeClient) -> None:
    client = make(10)
    stream = client.stream()
    stream.answer(50, MS)
    client.reactor.advance(30 * MS)
    assert not stream.in_loop
    stream.theirs.send(b"")
    client.drain._on = False
    client.reactor.advance(10 * MS)
    assert stream.in_loop
    client.drain._on = True
    client.reactor.advance(S)
    assert stream.ids == list(range(50))
    again = client.stream()
    again.send(HEAD + event(0))
    again.continue_from(1, 700, client.reactor.now_ns + MS, MS)
    client.reactor.advance(100 * MS)
    client.drain._on = False
    client.reactor.advance(20 * MS)
    client.drain._on = True
    client.reactor.advance(RECHECK_NS)
    assert not again.in_loop
    client.reactor.advance(S)
    assert again.ids == list(range(700))
    assert client.done == [stream.exchange, again.exchange]


def test_auto_is_on_while_there_is_much_to_read(make: MakeClient) -> None:
    client, reads, on = make(None), 0, []
    for rate in (0, ON_ABOVE, ON_ABOVE + 1, OFF_BELOW + 1, OFF_BELOW, OFF_BELOW + 1, ON_ABOVE + 1):
        reads += rate
        client.drain.adapt(reads)
        on.append(client.drain._on)
    assert on == [False, False, True, True, False, False, True]


def test_a_given_period_is_always_on(make: MakeClient) -> None:
    client = make(5)
    client.drain.adapt(0)
    assert client.drain._on


def test_switched_off_all_streams_come_back_and_none_leaves(make: MakeClient) -> None:
    client = switched_on(make)
    streams = [client.stream() for _ in range(10)]
    for stream in streams:
        stream.answer(2000, 2 * MS)
    client.reactor.advance(2 * S)
    assert not any(stream.in_loop for stream in streams)
    client.drain.adapt(ON_ABOVE + 2)  # one read in the last second, and what the drain has read
    client.drain.adapt(ON_ABOVE + 3)
    client.reactor.advance(MAX_PERIOD_NS)
    assert all(stream.in_loop for stream in streams)
    client.reactor.advance(3 * S)
    assert [stream.late_ns for stream in streams] == [0] * 10
    assert all(stream.ids == list(range(2000)) for stream in streams)
    assert client.drain.account(0).ends == 0


def drained(client: Client) -> Stream:
    """A stream of three tokens so far, out of the loop."""
    stream = client.stream()
    stream.send(HEAD + event(0))
    client.reactor.advance(0)
    stream.send(event(1))
    client.reactor.advance(0)
    assert not stream.in_loop
    stream.send(event(2))
    return stream


def test_cancelled_while_drained(make: MakeClient) -> None:
    client = make(10)
    stream = drained(client)
    stream.connection.fail(Outcome.CANCELLED, "interrupted")
    assert not stream.connection.usable
    client.reactor.advance(S)
    assert client.failures == [(stream.exchange, Outcome.CANCELLED)] and not client.done
    assert stream.theirs.recv(1 << 16) == b"request"
    with pytest.raises(ConnectionResetError):  # there were bytes that nobody read
        stream.theirs.recv(1)


@pytest.mark.parametrize("reset", [False, True])
def test_closed_by_the_engine_while_drained(make: MakeClient, reset: bool) -> None:
    client = make(10)
    stream = drained(client)
    if not reset:
        stream.theirs.recv(1 << 16)  # what is left unread makes it a reset
    stream.theirs.close()
    client.reactor.advance(S)
    assert client.failures == [(stream.exchange, Outcome.DISCONNECTED)]
    assert not client.done and not client.repeated
    assert not stream.connection.usable


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (chunk(b'data: {"a":[1,\n\n') + ending(3, 4), Outcome.BAD_STREAM),
        (chunk(b'data: {"error": {"message": "dead"}}\n\n') + ending(3, 4), Outcome.ENGINE_ERROR),
        (b"zz\r\nwhat is this\r\n\r\n", Outcome.BAD_STREAM),
        (ending(3, 4) + b"HTTP/1.1 200 OK\r\n\r\n", Outcome.BAD_STREAM),
    ],
)
def test_trouble_while_drained(make: MakeClient, data: bytes, outcome: Outcome) -> None:
    client = make(10)
    stream = drained(client)
    stream.send(data)
    client.reactor.advance(S)
    assert client.failures == [(stream.exchange, outcome)] and not client.done
    assert not stream.connection.usable


def test_silence_while_drained_is_a_time_out(make: MakeClient) -> None:
    client = make(10)
    stream = drained(client)
    limits = Timeouts(between_tokens_s=0.5)

    def sweep() -> None:
        hit = overdue(stream.exchange, limits, client.reactor.now_ns, stream=True)
        if hit is not None:
            stream.connection.fail(*hit)

    for _ in range(40):  # tokens come: what the drain reads counts
        stream.send(event(7))
        client.reactor.advance(25 * MS)
        sweep()
    assert not client.failures
    silent_ns = client.reactor.now_ns
    while not client.failures:
        client.reactor.advance(25 * MS)
        sweep()
        assert client.reactor.now_ns < silent_ns + 600 * MS
    assert client.failures == [(stream.exchange, Outcome.BETWEEN_TOKENS_TIMEOUT)]


def test_a_connection_serves_again_after_a_drained_end(make: MakeClient) -> None:
    client = make(10)
    stream = client.stream()
    exchanges = []
    for n in (20, 300, 2, 40):
        stream.answer(n, MS)
        client.reactor.advance(S)
        assert stream.in_loop and stream.ids == list(range(n))
        exchanges.append(stream.exchange)
        stream.again()
        assert stream.exchange.reused
    assert client.done == exchanges and not client.failures
    assert [exchange.drained for exchange in exchanges] == [True, True, False, True]
    assert client.drain.account(0).ends == 3


def test_reuse_within_the_look_that_found_the_end(
    make: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a query waits for the connection: it is sent before the look returns."""
    client = make(10)
    stream = client.stream()
    stream.answer(20, MS)
    finished = client.finished

    def finish_and_send(*args: object) -> None:
        finished(*args)  # type: ignore[arg-type]
        if len(client.done) < 3:
            stream.again()
            stream.answer(20, MS)

    monkeypatch.setattr(client, "finished", finish_and_send)
    client.reactor.advance(S)
    assert len(client.done) == 3 and not client.failures
    assert client.drain.account(0).ends == 3
    assert all(len(exchange.reader.ids) == 80 for exchange in client.done)


def test_a_lost_streams_place_on_the_wheel_is_nobody_elses(make: MakeClient) -> None:
    """Its descriptor is another connection's while its entry still hangs there."""
    client = make(50)
    old = drained(client)
    fd = old.connection.fd
    old.connection.fail(Outcome.CANCELLED, "interrupted")
    new = client.stream()
    assert new.connection.fd == fd
    new.answer(200, MS)
    client.reactor.advance(S)
    assert new.ids == list(range(200)) and client.done == [new.exchange]
    assert client.failures == [(old.exchange, Outcome.CANCELLED)]


def test_one_look_reads_all_there_is(make: MakeClient) -> None:
    """Else a stream faster than a read each period would fall behind, and its end be found late."""
    client = make(10)
    stream = drained(client)
    n = 3003
    stream.end(b"".join(event(i) for i in range(3, n - 1)) + ending(n - 1, n))
    client.reactor.advance(12 * MS)
    assert client.done == [stream.exchange]
    assert stream.ids == list(range(n))


def test_a_late_tick_is_accounted(make: MakeClient) -> None:
    client = make(10)
    streams = [drained(client) for _ in range(20)]
    for stream in streams:
        stream.end(ending(3, 4))
    client.reactor.now_ns += 300 * MS  # somebody else's turn took that long
    client.reactor.advance(12 * MS)
    assert len(client.done) == 20
    account = client.drain.account(0)
    assert account.end_wait_max_ns >= max(stream.late_ns for stream in streams) >= 300 * MS
