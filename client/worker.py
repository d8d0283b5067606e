"""One client process: takes commands from its pipe, drives connections, sends results back.

It runs alone on its event loop, knows nothing of LoadGen, and ends when its command pipe closes.
`client.pool` starts it as `python -m client FD`.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from time import monotonic_ns

from backends import create_backend
from backends.base import AnswerError
from client.busy import BusyMeter
from client.connection import Connection
from client.drain import Drain
from client.exchange import Exchange
from client.gaps import GapCounter
from client.outbox import Outbox
from client.overdue import overdue
from client.prompts import read_index
from client.reactor import Reactor
from client.router import Replica, Router
from client.spec import WorkerSpec
from client.wire import (
    CANCEL_ALL,
    COMMAND,
    SET_LIMIT,
    done_message,
    first_message,
    ready_message,
    stats_message,
)
from core.account import WorkerAccount
from core.outcome import Outcome

MAX_REASON = 400  # characters of a failure's reason that are kept
NO_ANSWER = {  # failures that say something about the replica and not about the query
    Outcome.CONNECT_TIMEOUT,
    Outcome.FIRST_TOKEN_TIMEOUT,
    Outcome.BETWEEN_TOKENS_TIMEOUT,
    Outcome.DISCONNECTED,
}
# Failures to connect that say something about this machine and not about the replica.
OURS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
SAMPLE_S = 1.0
FOLD_S = 0.1
# Offline counts no single answer's time: what a millisecond brings is handled in one go, at half the
# cost. An engine does not notice, as it always has more queries than it runs.
OFFLINE_PAUSE_S = 0.001


class Worker:
    """Owns the connections of one client process."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        conduct = self._conduct = spec.conduct
        self._backend = create_backend(conduct.backend, conduct.model)
        self._offsets, self._lengths, self._limits = read_index(spec.index_fd, spec.n_samples)
        bodies = mmap.mmap(spec.bodies_fd, self._offsets[-1] or 1, prot=mmap.PROT_READ)
        self._bodies = memoryview(bodies)
        self._router = Router(
            [Replica(i, address, spec.replica_limit) for i, address in enumerate(spec.replicas)],
            conduct.routing,
            first=spec.number,
        )
        self._replicas = self._router.replicas
        self._heads = [self._head(replica) for replica in self._replicas]
        self._waiting: deque[tuple[int, int, int]] = deque()  # query id, due_ns, index
        self._open: dict[Exchange, None] = {}  # an ordered set
        self._pumping = False
        self._mean_answer = conduct.expected_tokens  # so far, for routing
        self._busy = BusyMeter()
        self._gaps = GapCounter()
        self._stalls = GapCounter()
        self._cancelled = False
        self._rest = b""
        # What connections and drain use.
        self.gap = self._gaps.add
        self.reactor = Reactor()
        self.drain = Drain(self.reactor, conduct.drain_ms)
        self._outbox = Outbox(self.reactor, spec.results_fd, on_broken=self.reactor.stop)

    def _head(self, replica: Replica) -> bytes:
        """The part of a request's head that does not depend on the query."""
        return (
            f"POST {self._backend.path} HTTP/1.1\r\nHost: {replica.address.host_header}\r\n"
            "Content-Type: application/json\r\n"
        ).encode()

    def run(self) -> None:
        """Work until the command pipe closes."""
        os.set_blocking(self._spec.commands_fd, False)
        self.reactor.watch(self._spec.commands_fd, self._read_commands)
        self.reactor.turns = self._stalls.pending
        self.reactor.every(self._spec.sweep_s, self._sweep)
        self.reactor.every(SAMPLE_S, self._sample)
        self.reactor.every(FOLD_S, self._fold)
        self._busy.start()
        self._outbox.put(ready_message())
        self._outbox.flush()
        self.reactor.run(0.0 if self._conduct.stream else OFFLINE_PAUSE_S)

    # Commands -------------------------------------------------------------------------------------

    def _read_commands(self, mask: int) -> None:
        data = os.read(self._spec.commands_fd, 1 << 16)
        if not data:
            self.reactor.forget(self._spec.commands_fd)
            self._end()
            return
        data = self._rest + data
        whole = len(data) - len(data) % COMMAND.size
        self._rest = data[whole:]
        for query_id, due_ns, index, value in COMMAND.iter_unpack(data[:whole]):
            if index == CANCEL_ALL:
                self._cancelled = True
            elif index == SET_LIMIT:
                self._replicas[query_id].limit = value
            else:
                self._waiting.append((query_id, due_ns, index))
        if self._cancelled:  # what was on its way to us is cancelled as well
            self._cancel_all()
        self._pump()

    def _pump(self) -> None:
        """Send what waits while there is room. Not re-entrant: a query may fail while it is sent."""
        if self._pumping:
            return
        self._pumping = True
        while self._waiting and len(self._open) < self._spec.max_open:
            replica = self._router.choose()
            if replica is None and self._router.alive:
                break
            self._launch(replica, *self._waiting.popleft())
        self._pumping = False

    def _launch(self, replica: Replica | None, query_id: int, due_ns: int, index: int) -> None:
        exchange = self._begin(query_id, due_ns, index)
        if replica is None:
            reasons = {r.out_reason for r in self._replicas}
            self.failed(
                exchange, Outcome.NO_REPLICA, f"no replica left: {'; '.join(map(str, reasons))}"
            )
            return
        exchange.replica = replica.number
        exchange.weight = exchange.prompt_tokens + self._mean_answer
        self._router.begin(replica, exchange.weight)
        self._send(exchange, replica)

    def _begin(self, query_id: int, due_ns: int, index: int) -> Exchange:
        exchange = Exchange(query_id, index, due_ns, self._lengths[index], self._backend.reader())
        self._open[exchange] = None
        return exchange

    def _send(self, exchange: Exchange, replica: Replica) -> None:
        if replica.idle:
            connection, _ = replica.idle.popitem()
            self._send_on(connection, exchange)
        else:
            self._send_on_new(replica, exchange)

    def _send_on_new(self, replica: Replica, exchange: Exchange) -> None:
        connection = exchange.connection = Connection(self, replica, exchange)
        exchange.last_ns = monotonic_ns()  # since when it has been connecting
        try:
            connection.open()
        except OSError as error:
            self.unreachable(connection, error)

    def _send_on(self, connection: Connection, exchange: Exchange) -> None:
        start, end = self._offsets[exchange.index], self._offsets[exchange.index + 1]
        exchange.connection = connection
        connection.send(exchange, self._heads[connection.replica.number], self._bodies[start:end])

    # What connections report ----------------------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        assert connection.exchange is not None
        self._send_on(connection, connection.exchange)

    def unreachable(self, connection: Connection, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        replica = connection.replica
        detail = f"{replica.address.url}: no connection: {reason}"
        if error.errno not in OURS:
            replica.take_out(detail)
        timed_out = error.errno == errno.ETIMEDOUT
        connection.fail(Outcome.CONNECT_TIMEOUT if timed_out else Outcome.REFUSED, detail)

    def first_token(self, exchange: Exchange) -> None:
        self._outbox.put(first_message(exchange.query_id, bytes(exchange.reader.ids)))

    def finished(self, exchange: Exchange, connection: Connection) -> None:
        replica = connection.replica
        if connection.usable:
            replica.idle[connection] = None
        try:
            answer = exchange.finish(self._limits[exchange.index], stream=self._conduct.stream)
        except AnswerError as error:
            self.failed(exchange, error.outcome, error.detail)
            return
        replica.strikes = 0
        self._mean_answer += (answer.n_tokens - self._mean_answer) / 64
        self._complete(exchange, answer.ids)

    def failed(self, exchange: Exchange, outcome: Outcome, detail: str) -> None:
        exchange.outcome = outcome
        exchange.done_ns = exchange.done_ns or monotonic_ns()
        if outcome in NO_ANSWER and exchange.replica < len(self._replicas):
            self._replicas[exchange.replica].strike(detail)
        self._complete(exchange, detail[:MAX_REASON].encode())

    def _complete(self, exchange: Exchange, data: bytes) -> None:
        del self._open[exchange]
        if exchange.replica < len(self._replicas):
            self._router.end(self._replicas[exchange.replica], exchange.weight)
        exchange.worker = self._spec.number
        record = exchange.pack()
        self._outbox.put(
            done_message(exchange.query_id, exchange.outcome, exchange.n_tokens, record, data)
        )
        if self._waiting:
            self._pump()

    def send_again(self, exchange: Exchange) -> None:
        # Another idle connection may be as old, and there is no third attempt.
        self._send_on_new(self._replicas[exchange.replica], exchange)

    # Now and then ---------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Look for time-outs. One timer for all: a timer for each request would cost more than it."""
        now_ns, conduct = monotonic_ns(), self._conduct
        for exchange in list(self._open):
            hit = overdue(exchange, conduct.timeouts, now_ns, stream=conduct.stream)
            connection = exchange.connection
            if hit is not None and connection is not None:
                if hit[0] is Outcome.CONNECT_TIMEOUT:
                    self.unreachable(connection, OSError(errno.ETIMEDOUT, hit[1]))
                else:
                    connection.fail(*hit)

    def _sample(self) -> None:
        self._busy.sample()
        self.drain.adapt(self._gaps.total)

    def _fold(self) -> None:
        self._gaps.fold()
        self._stalls.fold()

    # The end --------------------------------------------------------------------------------------

    def _cancel_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for exchange in list(self._open):
            if exchange.connection is not None:
                exchange.connection.fail(Outcome.CANCELLED, "interrupted")
        for query in waiting:
            self.failed(self._begin(*query), Outcome.CANCELLED, "interrupted before it was sent")

    def _end(self) -> None:
        gaps = tuple(self._gaps.counts.tolist())
        stalls = tuple(self._stalls.counts.tolist())
        account = WorkerAccount(
            self._busy.account(f"worker {self._spec.number}", stalls),
            gaps,
            self.drain.account(sum(gaps)),
            {r.address.url: r.out_reason for r in self._replicas if r.out_reason},
        )
        self._outbox.put(stats_message(account.to_json()))
        for replica in self._replicas:
            for connection in list(replica.idle):
                connection.close()
        self._outbox.flush()
        self.reactor.every(0.01, self._leave)

    def _leave(self) -> None:
        if self._outbox.empty:
            self.reactor.stop()
