"""A client without a worker on a clock that the test turns: real sockets, invented time."""

from __future__ import annotations

import socket
from collections.abc import Callable
from heapq import heappop
from typing import cast

import numpy as np
import pytest

import client.connection
import client.drain
import client.reactor
from backends import create_backend
from backends.detect import Address
from client.connection import Connection, Owner
from client.drain import Drain
from client.exchange import Exchange
from client.reactor import Reactor
from client.router import Replica
from core.outcome import Outcome

MS = 1_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(token: int) -> bytes:
    return chunk(b'data: {"choices":[{"token_ids":[%d],"finish_reason":null}]}\n\n' % token)


def ending(token: int, n: int) -> bytes:
    """The last token of `n`, the engine's count, and the end of the body."""
    last = b'data: {"choices":[{"token_ids":[%d],"finish_reason":"stop"}]}\n\n' % token
    usage = b'{"prompt_tokens":3,"completion_tokens":%d}' % n
    rest = b'data: {"choices":[],"usage":%b}\n\n' % usage
    return chunk(last) + chunk(rest) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class TurnedReactor(Reactor):
    """A loop whose time passes only from timer to timer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now_ns = 1_000_000 * MS
        for module in (client.connection, client.drain, client.reactor):
            monkeypatch.setattr(module, "monotonic_ns", lambda: self.now_ns)

    def advance(self, duration_ns: int) -> None:
        """Turn until so much time has passed."""
        end_ns = self.now_ns + duration_ns
        self.look()
        while self._timers and self._timers[0][0] <= end_ns:
            due_ns, _, callback = heappop(self._timers)
            self.now_ns = max(self.now_ns, due_ns)
            callback()
            self.look()
        self.now_ns = max(self.now_ns, end_ns)

    def look(self) -> None:
        """Handle everything that is there, at this instant."""
        while ready := self._epoll.poll(0):
            self._forgotten.clear()
            for fd, mask in ready:
                if fd not in self._forgotten:
                    self._handlers[fd](mask)


class Stream:
    """One connection with one answer after another; `theirs` is the engine's end."""

    def __init__(self, owner: Client) -> None:
        self._owner = owner
        ours, self.theirs = socket.socketpair()
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.setblocking(False)
        self.theirs.setblocking(False)
        self.exchange = Exchange(0, 0, 0, 3, create_backend("vllm").reader())
        address = Address("http://h:1", "h", "127.0.0.1", 1)
        self.connection = Connection(
            cast(Owner, owner), Replica(0, address, 1 << 30), self.exchange
        )
        self.connection._socket, self.connection.fd = ours, ours.fileno()
        owner.reactor.watch(ours.fileno(), self.connection._readable)
        self.connection.send(self.exchange, b"request", memoryview(b""))
        self.ended_ns = 0  # when the engine sent the end

    @property
    def in_loop(self) -> bool:
        return self.connection.fd in self._owner.reactor._handlers

    def again(self) -> None:
        """Another request on the same connection."""
        self.exchange = Exchange(1, 0, 0, 3, create_backend("vllm").reader())
        self.connection.send(self.exchange, b"request", memoryview(b""))

    def send(self, data: bytes) -> None:
        assert self.theirs.send(data) == len(data)

    def end(self, data: bytes) -> None:
        self.ended_ns = self._owner.reactor.now_ns
        self.send(data)

    def answer(self, n: int, itl_ns: int, start_ns: int = 0) -> None:
        """Have `n` tokens sent from now on, of which the last one makes the end."""
        reactor = self._owner.reactor
        begin_ns = reactor.now_ns + start_ns
        reactor.at(begin_ns, lambda: self.send(HEAD + event(0)))
        self.continue_from(1, n, begin_ns + itl_ns, itl_ns)

    def continue_from(self, token: int, n: int, due_ns: int, itl_ns: int) -> None:
        reactor = self._owner.reactor

        def step(token: int) -> None:
            if token == n - 1:
                self.end(ending(token, n))
                return
            self.send(event(token))
            at(token + 1)

        def at(token: int) -> None:
            reactor.at(due_ns + (token - first) * itl_ns, lambda: step(token))

        first = token
        at(token)

    @property
    def ids(self) -> list[int]:
        answer = self.exchange.finish(1 << 20, stream=True)
        return [int(i) for i in np.frombuffer(answer.ids, "<i4")]

    @property
    def late_ns(self) -> int:
        """How much later than it was sent the end was seen."""
        return self.exchange.done_ns - self.ended_ns


class Client:
    """What a connection reports to."""

    def __init__(self, reactor: TurnedReactor, drain_ms: float | None) -> None:
        self.reactor = reactor
        self.drain = Drain(reactor, drain_ms)
        self.streams: list[Stream] = []
        self.done: list[Exchange] = []
        self.failures: list[tuple[Exchange, Outcome]] = []
        self.firsts: list[Exchange] = []
        self.repeated: list[Exchange] = []
        self.gaps: list[int] = []
        self.gap: Callable[[int], None] = self.gaps.append

    def stream(self) -> Stream:
        self.streams.append(Stream(self))
        return self.streams[-1]

    def close(self) -> None:
        for stream in self.streams:
            stream.connection.close()
            stream.theirs.close()
        self.reactor._epoll.close()

    def connected(self, connection: Connection) -> None:
        raise AssertionError

    def unreachable(self, connection: Connection, error: OSError) -> None:
        raise AssertionError

    def first_token(self, exchange: Exchange) -> None:
        self.firsts.append(exchange)

    def finished(self, exchange: Exchange, connection: Connection) -> None:
        assert connection.exchange is None
        self.done.append(exchange)

    def failed(self, exchange: Exchange, outcome: Outcome, detail: str) -> None:
        self.failures.append((exchange, outcome))

    def send_again(self, exchange: Exchange) -> None:
        self.repeated.append(exchange)
