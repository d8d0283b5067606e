"""One client process: takes commands from its pipe, drives connections, sends results back.

It runs alone on its event loop, knows nothing of LoadGen, and ends when its command pipe closes.
`client.pool` starts it as `python -m client FD`.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import resource
from collections import deque
from time import monotonic_ns

from backends import create_backend
from backends.base import AnswerError
from client.connection import Connection
from client.exchange import Exchange
from client.gaps import GapCounter
from client.outbox import Outbox
from client.overdue import overdue
from client.prompts import read_index
from client.router import Replica, Router
from client.spec import WorkerSpec
from client.wire import (
    CANCEL_ALL,
    COMMAND,
    done_message,
    first_message,
    ready_message,
    stats_message,
)
from core.outcome import Outcome
from core.record import Completion

MAX_REASON = 400  # characters of a failure's reason that are kept
NO_ANSWER = {  # failures that say something about the replica and not about the query
    Outcome.CONNECT_TIMEOUT,
    Outcome.FIRST_TOKEN_TIMEOUT,
    Outcome.BETWEEN_TOKENS_TIMEOUT,
    Outcome.DISCONNECTED,
}


class Worker:
    """Owns the connections of one client process."""

    def __init__(self, spec: WorkerSpec, loop: asyncio.AbstractEventLoop) -> None:
        self._spec = spec
        self._loop = loop
        self._backend = create_backend(spec.backend, spec.model)
        self._offsets, self._lengths = read_index(spec.index_fd, spec.n_samples)
        bodies = mmap.mmap(spec.bodies_fd, self._offsets[-1] or 1, prot=mmap.PROT_READ)
        self._bodies = memoryview(bodies)
        replicas = [Replica(i, address) for i, address in enumerate(spec.replicas)]
        self._replicas = replicas
        self._router = Router(replicas, spec.routing, first=spec.number)
        self._heads = [self._head(replica) for replica in replicas]
        self._outbox = Outbox(loop, spec.results_fd, on_broken=self._stop)
        self._waiting: deque[tuple[int, int, int]] = deque()  # query id, due_ns, index
        self._open: dict[Exchange, Connection | None] = {}  # None while it is connecting
        self._pumping = False
        self._mean_answer = float(spec.max_tokens) / 8  # expected answer length, for routing
        self._gaps = GapCounter()
        self.gap = self._gaps.add
        self._rest = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self.ended = loop.create_future()

    def _head(self, replica: Replica) -> bytes:
        return (
            f"POST {self._backend.path} HTTP/1.1\r\nHost: {replica.address.host_header}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()

    def start(self) -> None:
        os.set_blocking(self._spec.commands_fd, False)
        self._loop.add_reader(self._spec.commands_fd, self._read_commands)
        self._loop.call_later(self._spec.sweep_s, self._sweep)
        self._outbox.put(ready_message())

    # Commands -------------------------------------------------------------------------------------

    def _read_commands(self) -> None:
        data = os.read(self._spec.commands_fd, 1 << 16)
        if not data:
            self._loop.remove_reader(self._spec.commands_fd)
            self._end()
            return
        data = self._rest + data
        whole = len(data) - len(data) % COMMAND.size
        self._rest = data[whole:]
        for query_id, due_ns, index, _ in COMMAND.iter_unpack(data[:whole]):
            if index == CANCEL_ALL:
                self._cancel_all()
            else:
                self._waiting.append((query_id, due_ns, index))
        self._pump()

    def _pump(self) -> None:
        """Send what waits while there is room. Not re-entrant: a query may fail while it is sent."""
        if self._pumping:
            return
        self._pumping = True
        while self._waiting and len(self._open) < self._spec.max_open:
            self._launch(*self._waiting.popleft())
        self._pumping = False

    def _launch(self, query_id: int, due_ns: int, index: int) -> None:
        completion = Completion(
            query_id, index, due_ns, self._lengths[index], worker=self._spec.number
        )
        exchange = Exchange(
            completion, self._backend.reader(), self._spec.max_tokens, self._spec.stream
        )
        self._open[exchange] = None
        replica = self._router.choose()
        if replica is None:
            reasons = {r.out_reason for r in self._replicas}
            self.failed(
                exchange, Outcome.NO_REPLICA, f"no replica left: {'; '.join(map(str, reasons))}"
            )
            return
        completion.replica = replica.number
        exchange.weight = completion.prompt_tokens + self._mean_answer
        replica.outstanding_tokens += exchange.weight
        self._send(exchange, replica)

    def _send(self, exchange: Exchange, replica: Replica) -> None:
        while replica.idle:
            connection = replica.idle.pop()
            if connection.usable:
                self._send_on(connection, exchange)
                return
        task = self._loop.create_task(self._connect(exchange, replica))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send_on(self, connection: Connection, exchange: Exchange) -> None:
        index = exchange.completion.index
        start, end = self._offsets[index], self._offsets[index + 1]
        head = self._heads[connection.replica.number] + b"%d\r\n\r\n" % (end - start)
        self._open[exchange] = connection
        connection.send(exchange, head, self._bodies[start:end])

    async def _connect(self, exchange: Exchange, replica: Replica) -> None:
        address, timeout = replica.address, self._spec.timeouts.connect_s
        try:
            async with asyncio.timeout(timeout):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self, replica), address.ip, address.port
                )
        except TimeoutError:
            self._unreachable(
                exchange, replica, Outcome.CONNECT_TIMEOUT, f"not within {timeout:g} s"
            )
        except OSError as error:
            self._unreachable(exchange, replica, Outcome.REFUSED, str(error))
        else:
            if exchange in self._open:
                self._send_on(connection, exchange)
            else:
                connection.abort()  # cancelled meanwhile

    def _unreachable(
        self, exchange: Exchange, replica: Replica, outcome: Outcome, reason: str
    ) -> None:
        detail = f"{replica.address.url}: no connection: {reason}"
        replica.take_out(detail)
        if exchange in self._open:
            self.failed(exchange, outcome, detail)

    # What connections report ----------------------------------------------------------------------

    def first_token(self, exchange: Exchange) -> None:
        ids = bytes(exchange.reader.ids)
        self._outbox.put(first_message(exchange.completion.query_id, ids))

    def finished(self, exchange: Exchange, connection: Connection) -> None:
        if connection.usable:
            connection.replica.idle.append(connection)
        try:
            answer = exchange.finish()
        except AnswerError as error:
            self.failed(exchange, error.outcome, error.detail)
            return
        connection.replica.strikes = 0
        self._mean_answer += (answer.n_tokens - self._mean_answer) / 64
        self._complete(exchange, answer.ids)

    def failed(self, exchange: Exchange, outcome: Outcome, detail: str) -> None:
        completion = exchange.completion
        completion.outcome = outcome
        completion.done_ns = completion.done_ns or monotonic_ns()
        if outcome in NO_ANSWER and completion.replica < len(self._replicas):
            self._replicas[completion.replica].strike(detail)
        self._complete(exchange, detail[:MAX_REASON].encode())

    def _complete(self, exchange: Exchange, data: bytes) -> None:
        del self._open[exchange]
        completion = exchange.completion
        if completion.replica < len(self._replicas):
            self._replicas[completion.replica].outstanding_tokens -= exchange.weight
        self._outbox.put(done_message(completion, data))
        if self._waiting:
            self._pump()

    def send_again(self, exchange: Exchange) -> None:
        self._send(exchange, self._replicas[exchange.completion.replica])

    def gone(self, connection: Connection) -> None:
        if connection in connection.replica.idle:
            connection.replica.idle.remove(connection)

    # Time-outs ------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Look for time-outs. One timer for all: a timer for each request would cost more than it."""
        now_ns = monotonic_ns()
        for exchange, connection in list(self._open.items()):
            if connection is not None:
                hit = overdue(exchange, self._spec.timeouts, now_ns)
                if hit is not None:
                    connection.fail(*hit)
        self._gaps.fold()
        self._loop.call_later(self._spec.sweep_s, self._sweep)

    # The end --------------------------------------------------------------------------------------

    def _cancel_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for exchange, connection in list(self._open.items()):
            if connection is None:
                self.failed(exchange, Outcome.CANCELLED, "interrupted")
            else:
                connection.fail(Outcome.CANCELLED, "interrupted")
        for query_id, due_ns, index in waiting:
            completion = Completion(query_id, index, due_ns, self._lengths[index])
            exchange = Exchange(completion, self._backend.reader(), 0, stream=False)
            self._open[exchange] = None
            self.failed(exchange, Outcome.CANCELLED, "interrupted before it was sent")

    def _end(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        stats = {
            "worker": self._spec.number,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "gap_counts": self._gaps.counts.tolist(),
            "replicas_out": {r.address.url: r.out_reason for r in self._replicas if r.out_reason},
        }
        self._outbox.put(stats_message(json.dumps(stats).encode()))
        for replica in self._replicas:
            for connection in replica.idle:
                connection.abort()
        self._outbox.when_empty(self._stop)

    def _stop(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
