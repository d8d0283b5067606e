"""The event loop on real pipes and sockets: who is called, when, and who no longer."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from time import monotonic_ns

import pytest

from client.reactor import READ, WRITE, Reactor

MS = 1_000_000


@pytest.fixture
def reactor() -> Reactor:
    """A loop that ends by itself, so that a test fails instead of hanging."""
    reactor = Reactor()
    reactor.at(monotonic_ns() + 5_000 * MS, reactor.stop)
    return reactor


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_a_handler_is_called_while_there_is_something(
    reactor: Reactor, pipe: tuple[int, int]
) -> None:
    read, write = pipe
    seen: list[bytes] = []

    def handler(mask: int) -> None:
        assert mask & READ
        seen.append(os.read(read, 1))  # not all of it: the next turn calls again
        if len(seen) == 3:
            reactor.stop()

    reactor.watch(read, handler)
    os.write(write, b"abc")
    reactor.run()
    assert seen == [b"a", b"b", b"c"]
    assert len(reactor.turns) == 3 and min(reactor.turns) >= 0


def test_the_end_of_a_pipe_is_an_event(reactor: Reactor) -> None:
    read, write = os.pipe()
    seen: list[bytes] = []

    def handler(mask: int) -> None:
        seen.append(os.read(read, 1))
        reactor.stop()

    reactor.watch(read, handler)
    os.close(write)
    reactor.run()
    os.close(read)
    assert seen == [b""]


def test_rewatch_changes_what_is_waited_for_and_who_is_called(reactor: Reactor) -> None:
    ours, theirs = socket.socketpair()
    calls: list[str] = []

    def writable(mask: int) -> None:
        calls.append("writable")
        reactor.rewatch(ours.fileno(), readable)
        theirs.send(b"x")

    def readable(mask: int) -> None:
        assert not mask & WRITE
        calls.append("readable")
        reactor.stop()

    reactor.watch(ours.fileno(), writable, WRITE)
    reactor.run()
    ours.close()
    theirs.close()
    assert calls == ["writable", "readable"]


def test_who_is_forgotten_within_a_turn_is_not_called_in_it(reactor: Reactor) -> None:
    pairs = [os.pipe() for _ in range(2)]
    calls: list[int] = []

    def handler(fd: int, other: int) -> None:
        calls.append(fd)
        reactor.forget(other)
        reactor.stop()

    (a, _), (b, _) = pairs
    reactor.watch(a, lambda mask: handler(a, b))
    reactor.watch(b, lambda mask: handler(b, a))
    for _, write in pairs:
        os.write(write, b"x")
    reactor.run()
    reactor.forget(a)
    reactor.forget(b)  # one of them for the second time, which is nothing
    for fd in (fd for pair in pairs for fd in pair):
        os.close(fd)
    assert len(calls) == 1


def test_a_reused_descriptor_does_not_get_the_events_of_its_predecessor(reactor: Reactor) -> None:
    """Two are ready. Each, when called, puts a new pipe in the other's place: nothing is in it."""
    pairs = {read: write for read, write in (os.pipe(), os.pipe())}
    calls: list[str] = []

    def first(mask: int, fd: int) -> None:
        calls.append("first")
        (other,) = set(pairs) - {fd}
        reactor.forget(other)
        read, write = os.pipe()
        os.dup2(read, other)  # closes it and takes its number
        os.close(read)
        os.close(pairs[other])
        pairs[other] = write
        reactor.watch(other, second)
        reactor.forget(fd)
        reactor.at(monotonic_ns(), put)

    def second(mask: int) -> None:
        calls.append("second")
        reactor.stop()

    def put() -> None:
        calls.append("put")
        for write in pairs.values():
            os.write(write, b"x")

    for read, write in pairs.items():
        reactor.watch(read, lambda mask, fd=read: first(mask, fd))  # type: ignore[misc]
        os.write(write, b"x")
    reactor.run()
    for fd in (fd for pair in pairs.items() for fd in pair):
        os.close(fd)
    assert calls == ["first", "put", "second"]


def test_timers_come_in_order_and_never_early(reactor: Reactor) -> None:
    now_ns = monotonic_ns()
    due = {name: now_ns + wait * MS for name, wait in (("c", 9), ("a", 3), ("b", 6), ("past", -5))}
    calls: list[str] = []

    def callback(name: str) -> None:
        assert monotonic_ns() >= due[name]
        calls.append(name)
        if name == "c":
            reactor.stop()

    for name, due_ns in due.items():
        reactor.at(due_ns, lambda name=name: callback(name))  # type: ignore[misc]
    reactor.run()
    assert calls == ["past", "a", "b", "c"]


def test_timers_of_one_instant_come_in_the_order_they_were_set(reactor: Reactor) -> None:
    calls: list[int] = []
    now_ns = monotonic_ns()
    for i in range(20):
        reactor.at(now_ns, lambda i=i: calls.append(i))  # type: ignore[misc]
    reactor.at(now_ns + 1, reactor.stop)
    reactor.run()
    assert calls == list(range(20))


def test_a_timer_that_sets_itself_again_does_not_hold_up_descriptors(
    reactor: Reactor, pipe: tuple[int, int]
) -> None:
    def again() -> None:
        reactor.at(monotonic_ns(), again)

    reactor.watch(pipe[0], lambda mask: reactor.stop())
    again()
    os.write(pipe[1], b"x")
    reactor.run()
    assert len(reactor.turns) <= 2


def test_a_periodic_timer_does_not_make_up_for_what_it_missed(reactor: Reactor) -> None:
    calls: list[int] = []

    def callback() -> None:
        calls.append(monotonic_ns())
        if len(calls) == 1:
            while monotonic_ns() < calls[0] + 50 * MS:  # a handler that takes long
                pass
        if len(calls) == 3:
            reactor.stop()

    reactor.every(0.01, callback)
    reactor.run()
    assert calls[1] >= calls[0] + 60 * MS
    assert calls[2] >= calls[1] + 10 * MS


def test_the_turns_end_comes_after_handlers_and_timers_if_there_are_messages(
    reactor: Reactor, pipe: tuple[int, int]
) -> None:
    calls: list[str] = []

    def handler(mask: int) -> None:
        os.read(pipe[0], 1)
        calls.append("handler")
        reactor.messages.append(b"m")
        reactor.at(0, lambda: calls.append("timer"))
        reactor.at(monotonic_ns() + 5 * MS, reactor.stop)

    def turn_end() -> None:
        calls.append("end")
        reactor.messages.clear()

    reactor.turn_end = turn_end
    reactor.watch(pipe[0], handler)
    os.write(pipe[1], b"x")
    reactor.run()
    assert calls == ["handler", "timer", "end"]
