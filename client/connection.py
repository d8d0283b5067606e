"""One kept-alive HTTP/1.1 connection to one replica, with at most one request in flight.

This is the hot path: `_readable` runs once per read of every stream. With the first token in, it
costs a clock reading, an append and a few comparisons.
"""

from __future__ import annotations

import errno
import os
import socket
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from backends.base import AnswerError
from client.drain import Drain
from client.exchange import Exchange
from client.reactor import READ, WRITE, Reactor
from core.outcome import Outcome

if TYPE_CHECKING:
    from client.router import Replica

READ_BYTES = 1 << 16
SAME_INSTANT_NS = 1_000_000_000  # a way there and back, generously


class Owner(Protocol):
    """What a connection reports to; the worker."""

    reactor: Reactor
    drain: Drain

    def connected(self, connection: Connection) -> None: ...
    def unreachable(self, connection: Connection, error: OSError) -> None: ...
    def first_token(self, exchange: Exchange) -> None: ...
    def gap(self, duration_ns: int) -> None: ...
    def finished(self, exchange: Exchange, connection: Connection) -> None: ...
    def failed(self, exchange: Exchange, outcome: Outcome, detail: str) -> None: ...
    def send_again(self, exchange: Exchange) -> None: ...


class Connection:
    """Sends prepared requests one after another and times their answers.

    `exchange` is the request it is for: while connecting, the one that waits for it; then the one in
    flight; None when it is idle.
    """

    __slots__ = ("_gap", "_owner", "_served", "_socket", "_unsent", "exchange", "fd", "replica")

    def __init__(self, owner: Owner, replica: Replica, exchange: Exchange) -> None:
        self._owner = owner
        self._gap = owner.gap
        self.replica = replica
        self.exchange: Exchange | None = exchange
        self._served = 0
        self._unsent = memoryview(b"")
        self.fd = -1
        self._socket: socket.socket | None = None

    # Opening --------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start to connect. Raises OSError; later failures go to the owner."""
        address = self.replica.address
        family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self._socket.fileno()
        error = self._socket.connect_ex((address.ip, address.port))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))
        self._owner.reactor.watch(self.fd, self._connected, WRITE)

    def _connected(self, mask: int) -> None:
        assert self._socket is not None
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._owner.unreachable(self, OSError(error, os.strerror(error)))
        else:
            self._owner.reactor.rewatch(self.fd, self._readable)
            self._owner.connected(self)

    @property
    def usable(self) -> bool:
        return self.fd >= 0

    # Sending --------------------------------------------------------------------------------------

    def send(self, exchange: Exchange, head: bytes, body: memoryview) -> None:
        """Write one prepared request."""
        self.exchange = exchange
        exchange.reused = self._served > 0
        self._served += 1
        exchange.attempts += 1
        exchange.sent_ns = exchange.last_ns = monotonic_ns()
        try:
            written = os.writev(self.fd, (head, body))
        except BlockingIOError:
            written = 0
        except OSError:
            self._lost()
            return
        if written < len(head) + len(body):
            self._unsent = memoryview(head + body)[written:]
            self._owner.reactor.rewatch(self.fd, self._writable, READ | WRITE)

    def _writable(self, mask: int) -> None:
        """The rest of a request that is larger than the socket's buffer."""
        if mask & WRITE:
            try:
                self._unsent = self._unsent[os.write(self.fd, self._unsent) :]
            except BlockingIOError:
                pass
            except OSError:
                self._lost()
                return
            if not self._unsent:
                self._owner.reactor.rewatch(self.fd, self._readable)
        if mask & ~WRITE:
            self._readable(mask)

    # Reading --------------------------------------------------------------------------------------

    def _readable(self, mask: int) -> None:
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        now_ns = monotonic_ns()
        exchange = self.exchange
        if exchange is None or not data:
            self._lost()  # the end, or bytes that nobody asked for: whose answer would they be?
            return
        if not exchange.cheap:
            self._read(exchange, data, now_ns)
            return
        exchange.reads += 1
        if b"data:" in data:
            self._gap(now_ns - exchange.last_ns)
            exchange.last_ns = now_ns
        if exchange.put_aside(data):
            self._read(exchange, b"", now_ns)
        elif now_ns >= exchange.drain_after_ns:
            self._owner.drain.consider(self, exchange, now_ns)

    def look(self, exchange: Exchange) -> bool:
        """Read all that a drained stream has; False if there was nothing."""
        found = False
        while self.exchange is exchange:
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            found = True
            if not data:
                self._lost()
                break
            exchange.last_ns = now_ns = monotonic_ns()
            if exchange.put_aside(data):
                self._read(exchange, b"", now_ns)
            if len(data) < READ_BYTES:
                break
        return found

    def leave_loop(self) -> None:
        self._owner.reactor.forget(self.fd)

    def rejoin_loop(self) -> None:
        self._owner.reactor.watch(self.fd, self._readable)

    def _read(self, exchange: Exchange, data: bytes, now_ns: int) -> None:
        exchange.last_ns = now_ns
        try:
            exchange.read(data, now_ns)
        except AnswerError as error:
            self.fail(error.outcome, error.detail)
            return
        if exchange.first_token_ns and not exchange.first_was_sent:
            exchange.first_was_sent = True
            self._owner.drain.begin(exchange)
            self._owner.first_token(exchange)
        if exchange.ended:
            self._end(exchange)

    # Ending ---------------------------------------------------------------------------------------

    def _end(self, exchange: Exchange) -> None:
        self.exchange = None
        if not exchange.keep_alive or self._unsent:
            self.close()
        if exchange.drained:
            self._owner.drain.ended(self, exchange)
        self._owner.finished(exchange, self)

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Give the request up; closing the connection tells the engine to stop generating."""
        exchange, self.exchange = self.exchange, None
        self.close()
        if exchange is not None:
            self._owner.failed(exchange, outcome, detail)

    def close(self) -> None:
        if self._socket is not None and self.fd >= 0:
            self._owner.reactor.forget(self.fd)
            self._socket.close()
            self.fd = -1

    def _lost(self) -> None:
        """The other side is gone, or says what it should not."""
        exchange, self.exchange = self.exchange, None
        self.close()
        self.replica.idle.pop(self, None)
        if exchange is None:
            return
        late = monotonic_ns() - exchange.sent_ns > SAME_INSTANT_NS
        if exchange.reused and exchange.untouched and exchange.attempts == 1 and not late:
            # The server closed an idle connection while our request was on its way to it. Later than
            # that, it had the request, and losing it is a failure.
            self._owner.send_again(exchange)
            return
        try:
            exchange.close(monotonic_ns())
        except AnswerError as failure:
            self._owner.failed(exchange, failure.outcome, failure.detail)
        else:
            self._owner.finished(exchange, self)
