"""The result pipe when it is full, narrow or broken: everything arrives once, in order."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic_ns

import pytest

from client.outbox import Outbox
from client.reactor import Reactor

PIPE = 4096  # the smallest that Linux gives


class Pipe:
    """An outbox, its loop, and the main process's end."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, PIPE)
        os.set_blocking(self.read_fd, False)
        self.reactor = Reactor()
        self.broken = 0
        self.outbox = Outbox(self.reactor, self.write_fd, self.on_broken)
        self.got = b""

    def on_broken(self) -> None:
        self.broken += 1
        self.reactor.stop()

    def read(self, size: int = 1 << 20) -> None:
        self.got += os.read(self.read_fd, size)

    def until(self, condition: Callable[[], bool], each_turn: Callable[[], None]) -> None:
        """Turn until it holds; a run that takes five seconds has failed."""
        deadline_ns = monotonic_ns() + 5_000_000_000

        def look() -> None:
            assert monotonic_ns() < deadline_ns
            each_turn()
            if condition():
                self.reactor.stop()
            else:
                self.reactor.at(monotonic_ns(), look)

        look()
        self.reactor.run()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.reactor.forget(pipe.write_fd)
    for fd in (pipe.read_fd, pipe.write_fd):
        with suppress(OSError):
            os.close(fd)


def messages(n: int, size: int) -> list[bytes]:
    return [b"%06d:" % i + bytes([i % 251]) * size for i in range(n)]


def test_a_turns_messages_arrive_at_its_end(pipe: Pipe) -> None:
    for message in messages(3, 10):
        pipe.outbox.put(message)
    assert not pipe.outbox.empty
    pipe.outbox.flush()
    pipe.read()
    assert pipe.got == b"".join(messages(3, 10)) and pipe.outbox.empty


@pytest.mark.parametrize(("size", "at_once"), [(1, 1), (100, 7), (100, PIPE), (3 * PIPE, 997)])
def test_a_slow_reader_gets_everything_in_order(pipe: Pipe, size: int, at_once: int) -> None:
    """More is put while the pipe is full, too."""
    sent = messages(40, size)
    left = list(sent)
    total = sum(map(len, sent))

    def each_turn() -> None:
        if left:
            pipe.outbox.put(left.pop(0))
        elif not pipe.outbox.empty or len(pipe.got) < total:
            with suppress(BlockingIOError):
                pipe.read(at_once)

    pipe.until(lambda: len(pipe.got) == total, each_turn)
    assert pipe.got == b"".join(sent)
    assert pipe.outbox.empty


def test_a_full_pipe_neither_blocks_nor_spins(pipe: Pipe) -> None:
    pipe.outbox.put(bytes(3 * PIPE))
    pipe.outbox.flush()
    assert not pipe.outbox.empty
    pipe.reactor.at(monotonic_ns() + 20_000_000, pipe.reactor.stop)
    pipe.reactor.run()
    assert len(pipe.reactor.turns) <= 2  # nothing to do before somebody reads
    pipe.read()
    assert len(pipe.got) == PIPE


def test_a_pipe_that_is_full_already_takes_nothing_at_first(pipe: Pipe) -> None:
    ballast = os.write(pipe.write_fd, bytes(PIPE))
    pipe.outbox.put(b"hello")  # so short that a pipe takes all of it or nothing
    pipe.outbox.flush()
    assert not pipe.outbox.empty
    pipe.read()
    pipe.until(lambda: pipe.outbox.empty, lambda: None)
    pipe.read()
    assert pipe.got == bytes(ballast) + b"hello"


@pytest.mark.parametrize("full", [False, True])
def test_nobody_reads_any_more(pipe: Pipe, full: bool) -> None:
    if full:
        pipe.outbox.put(bytes(3 * PIPE))
        pipe.outbox.flush()
    os.close(pipe.read_fd)
    pipe.outbox.put(b"x")
    pipe.reactor.at(monotonic_ns() + 5_000_000_000, pipe.reactor.stop)
    pipe.reactor.at(monotonic_ns(), lambda: None)
    pipe.reactor.run()
    assert pipe.broken


def test_a_pile_is_not_copied_for_each_piece_of_it(pipe: Pipe) -> None:
    """16 MB through a pipe of 4 kB would be 32 GB of copies."""
    pile = bytes(100 * PIPE)
    pipe.outbox.put(pile)
    pipe.outbox.flush()
    for i in range(1, 100):
        assert pipe.outbox._unsent.obj is pile
        assert len(pipe.outbox._unsent) == (100 - i) * PIPE
        pipe.read()
        pipe.outbox._resume(0)
    assert pipe.outbox.empty
