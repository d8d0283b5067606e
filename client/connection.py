"""One kept-alive HTTP/1.1 connection to one replica, with at most one request in flight.

This is the hot path: `data_received` runs once per read of every stream. With the first token in, it
costs a clock reading, a list append and two comparisons.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol, cast

from backends.base import AnswerError
from client.exchange import Exchange
from core.outcome import Outcome

if TYPE_CHECKING:
    from client.router import Replica


class Owner(Protocol):
    """What a connection reports to; the worker."""

    def first_token(self, exchange: Exchange) -> None: ...
    def gap(self, duration_ns: int) -> None: ...
    def finished(self, exchange: Exchange, connection: Connection) -> None: ...
    def failed(self, exchange: Exchange, outcome: Outcome, detail: str) -> None: ...
    def send_again(self, exchange: Exchange) -> None: ...
    def gone(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """Sends prepared requests one after another and times their answers."""

    __slots__ = ("_exchange", "_owner", "_served", "_transport", "replica")

    def __init__(self, owner: Owner, replica: Replica) -> None:
        self._owner = owner
        self.replica = replica
        self._exchange: Exchange | None = None
        self._served = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, exchange: Exchange, head: bytes, body: memoryview) -> None:
        """Write one prepared request."""
        assert self._transport is not None
        self._exchange = exchange
        exchange.reused = self._served > 0
        self._served += 1
        completion = exchange.completion
        completion.attempts += 1
        completion.sent_ns = exchange.last_ns = monotonic_ns()
        self._transport.writelines((head, body))

    def data_received(self, data: bytes) -> None:
        now_ns = monotonic_ns()
        exchange = self._exchange
        if exchange is None:
            self.abort()  # bytes that nobody asked for: whose answer would they be?
            return
        try:
            if exchange.cheap:
                if b"data:" in data:
                    self._owner.gap(now_ns - exchange.last_ns)
                    exchange.last_ns = now_ns
                if not exchange.put_aside(data):
                    return
                exchange.read_aside(now_ns)
            else:
                self._read(exchange, data, now_ns)
        except AnswerError as error:
            self.fail(error.outcome, error.detail)
            return
        if exchange.ended:
            self._end(exchange)

    def _read(self, exchange: Exchange, data: bytes, now_ns: int) -> None:
        exchange.last_ns = now_ns
        exchange.read(data, now_ns)
        if exchange.completion.first_token_ns and not exchange.first_was_sent:
            exchange.first_was_sent = True
            self._owner.first_token(exchange)

    def _end(self, exchange: Exchange) -> None:
        self._exchange = None
        if not exchange.keep_alive:
            self.abort()
        self._owner.finished(exchange, self)

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Give the request up; closing the connection tells the engine to stop generating."""
        exchange, self._exchange = self._exchange, None
        self.abort()
        if exchange is not None:
            self._owner.failed(exchange, outcome, detail)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.gone(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if exchange.reused and exchange.untouched and exchange.completion.attempts == 1:
            # The server closed an idle connection while our request was on its way to it.
            self._owner.send_again(exchange)
            return
        try:
            exchange.close(monotonic_ns())
        except AnswerError as failure:
            self._owner.failed(exchange, failure.outcome, failure.detail)
        else:
            self._owner.finished(exchange, self)
