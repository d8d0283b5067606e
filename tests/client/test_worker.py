"""A whole worker on a thread, against servers that the test scripts, over real sockets and pipes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from backends import create_backend
from backends.detect import Address
from client.connection import Connection
from client.exchange import Exchange
from client.prompts import encode_prompts
from client.spec import Conduct, WorkerSpec
from client.wire import CANCEL_ALL, COMMAND, DONE, HEADER, RECORD_SIZE
from client.worker import Worker
from core.config import Sampling, Timeouts
from core.outcome import Outcome
from core.record import RECORD

PROMPTS = [np.array([5, 6, 7], np.int32), np.arange(100_000, dtype=np.int32)]
LIMIT_S = 20.0
Script = Callable[[socket.socket, int], bool]  # connection, number of its request; False: the last


def whole_answer(prompt_tokens: int) -> bytes:
    choice = b'{"text":"","token_ids":[7,8],"finish_reason":"stop"}'
    usage = b'{"prompt_tokens":%d,"completion_tokens":2}' % prompt_tokens
    body = b'{"choices":[%b],"usage":%b}' % (choice, usage)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Server:
    """Follows a script on each of its connections."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # of connections, too
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        number = 0
        with connection:
            while request := read_request(connection):
                self.requests.append(request)
                number += 1
                if not self._script(connection, number):
                    return

    def stop_listening(self) -> None:
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def close(self) -> None:
        self.stop_listening()
        for connection in self.connections:
            connection.close()


def read_request(connection: socket.socket) -> bytes:
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(4096)):
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.rpartition(b"Content-Length: ")[2])
        while len(body) < length:
            body += connection.recv(4096)
    except OSError:
        return b""
    return body


@dataclass
class Run:
    """A worker's thread and the main process's ends of its pipes."""

    commands_fd: int
    results_fd: int
    worker: Worker
    thread: threading.Thread
    rest: bytes = b""
    ended: dict[int, tuple[Outcome, str, Any]] = field(default_factory=dict)

    def send(self, *queries: tuple[int, int]) -> None:
        """Query ids and rows, in one write."""
        os.write(self.commands_fd, b"".join(COMMAND.pack(i, 1, row, 0) for i, row in queries))

    def wait(self, n: int) -> None:
        """Read until `n` queries have ended."""
        while len(self.ended) < n:
            data = os.read(self.results_fd, 1 << 16)
            assert data, f"the worker ended, {len(self.ended)} of {n} queries had"
            self.rest += data
            while len(self.rest) >= HEADER.size:
                kind, outcome, size, query_id, _ = HEADER.unpack_from(self.rest)
                if len(self.rest) < HEADER.size + size:
                    break
                message = self.rest[HEADER.size : HEADER.size + size]
                self.rest = self.rest[HEADER.size + size :]
                if kind == DONE:
                    assert query_id not in self.ended
                    record = np.frombuffer(message[:RECORD_SIZE], RECORD)[0]
                    text = message[RECORD_SIZE:].decode(errors="replace")
                    self.ended[query_id] = Outcome(outcome), text, record


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[Server, Run]]]:
    closers: list[Callable[[], object]] = []

    def start(script: Script, max_open: int = 100) -> tuple[Server, Run]:
        server = Server(script)
        address = Address(f"http://127.0.0.1:{server.port}", "h", "127.0.0.1", server.port)
        backend = create_backend("vllm")
        prompts = encode_prompts(PROMPTS, backend, Sampling(max_tokens=2), stream=False)
        (commands_read, commands_write), (results_read, results_write) = os.pipe(), os.pipe()
        timeouts = Timeouts(total_s=LIMIT_S)
        conduct = Conduct("vllm", None, False, 2, "least-tokens", None, timeouts, max_open)
        spec = WorkerSpec(
            0, conduct, max_open, 1 << 30, 2, (address,), (), commands_read, results_write,
            prompts.bodies_fd, prompts.index_fd, len(PROMPTS),
        )  # fmt: skip
        worker = Worker(spec)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()

        def close() -> None:
            os.close(commands_write)
            thread.join(LIMIT_S)
            assert not thread.is_alive()
            for exchange in worker._open:
                assert exchange.connection is not None
                exchange.connection.close()
            worker.reactor._epoll.close()
            for fd in (commands_read, results_read, results_write):
                os.close(fd)
            prompts.close()
            server.close()

        closers.append(close)
        return server, Run(commands_write, results_read, worker, thread)

    yield start
    for close in closers:
        close()


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gives sockets small buffers; counts the writes that follow a request's first."""
    found: list[int] = []
    opened, writable = Connection.open, Connection._writable

    def narrow(connection: Connection) -> None:
        opened(connection)
        assert connection._socket is not None
        connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def counted(connection: Connection, mask: int) -> None:
        found.append(mask)
        writable(connection, mask)

    monkeypatch.setattr(Connection, "open", narrow)
    monkeypatch.setattr(Connection, "_writable", counted)
    return found


def test_a_hundred_thousand_ids_arrive_whole(
    start: Callable[..., tuple[Server, Run]], pieces: list[int]
) -> None:
    """Many times a socket's buffer, several at once, on new connections and kept ones."""

    def script(connection: socket.socket, number: int) -> bool:
        connection.sendall(whole_answer(100_000))
        return True

    server, run = start(script, max_open=3)
    run.send(*[(i, 1) for i in range(9)])
    run.wait(9)
    assert {outcome for outcome, _, _ in run.ended.values()} == {Outcome.OK}
    expected = create_backend("vllm").encode(PROMPTS[1], Sampling(max_tokens=2), stream=False)
    assert server.requests == [expected] * 9
    assert len(server.connections) == 3
    assert len(pieces) >= 9


def test_an_answer_before_the_request_was_whole(
    start: Callable[..., tuple[Server, Run]], pieces: list[int]
) -> None:
    """The rest of that request must not become a part of the next one's."""
    go_on = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad\r\nContent-Length: 8\r\n\r\ntoo long")
        go_on.wait(LIMIT_S)

    server, run = start(lambda connection, number: False)
    server._serve = serve  # type: ignore[method-assign]
    run.send((1, 1))
    run.wait(1)
    outcome, text, _ = run.ended[1]
    assert (outcome, text) == (Outcome.HTTP_ERROR, "HTTP 400: too long")
    assert not run.worker._replicas[0].idle
    go_on.set()


def test_a_server_that_closes_all_idle_connections(
    start: Callable[..., tuple[Server, Run]],
) -> None:
    """As keep-alive limits do; each query that meets one is sent again, on a connection that is new,
    as the other idle ones may be as old."""
    together = threading.Barrier(4)

    def script(connection: socket.socket, number: int) -> bool:
        if number == 1 and len(server.requests) <= 4:
            together.wait(LIMIT_S)  # so that each of four has its own connection
        if number == 2:
            return False
        connection.sendall(whole_answer(3))
        return True

    server, run = start(script)
    run.send(*[(i, 0) for i in range(4)])
    run.wait(4)
    run.send((4, 0), (5, 0), (6, 0))
    run.wait(7)
    assert {outcome for outcome, _, _ in run.ended.values()} == {Outcome.OK}
    assert [int(run.ended[i][2]["attempts"]) for i in range(7)] == [1] * 4 + [2] * 3


def test_a_request_that_the_server_had_is_not_sent_again(
    start: Callable[..., tuple[Server, Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been generating: another answer would hide that it was lost."""
    monkeypatch.setattr("client.connection.SAME_INSTANT_NS", 0)

    def script(connection: socket.socket, number: int) -> bool:
        if number == 2:
            return False
        connection.sendall(whole_answer(3))
        return True

    _, run = start(script)
    run.send((1, 0))
    run.wait(1)
    run.send((2, 0))
    run.wait(2)
    assert run.ended[2][0] is Outcome.DISCONNECTED
    assert int(run.ended[2][2]["attempts"]) == 1


def test_nobody_listens(start: Callable[..., tuple[Server, Run]]) -> None:
    server, run = start(lambda connection, number: False)
    server.stop_listening()
    run.send(*[(i, 0) for i in range(20)])
    run.wait(20)
    outcomes = [outcome for outcome, _, _ in run.ended.values()]
    assert set(outcomes) <= {Outcome.REFUSED, Outcome.NO_REPLICA}
    assert outcomes[0] is Outcome.REFUSED


def test_cancelled_is_all_that_was_sent_waits_or_comes_later(
    start: Callable[..., tuple[Server, Run]],
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def script(connection: socket.socket, number: int) -> bool:
        asked.set()
        go_on.wait(LIMIT_S)
        return False

    server, run = start(script, max_open=2)
    run.send(*[(i, 0) for i in range(5)])
    assert asked.wait(LIMIT_S)
    run.send((5, 0), (0, CANCEL_ALL), (6, 0))
    run.wait(7)
    run.send((7, 0))  # LoadGen's thread was about to hand it over
    run.wait(8)
    assert {outcome for outcome, _, _ in run.ended.values()} == {Outcome.CANCELLED}
    assert not run.worker._open and not run.worker._waiting
    assert len(server.requests) <= 2
    go_on.set()


def test_an_odd_usage_is_a_failed_query_and_not_a_dead_worker(
    start: Callable[..., tuple[Server, Run]],
) -> None:
    def script(connection: socket.socket, number: int) -> bool:
        choice = b'{"token_ids":[7,8],"finish_reason":"stop"}'
        body = b'{"choices":[%b],"usage":5}' % choice
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        return True

    _, run = start(script)
    run.send((1, 0))
    run.wait(1)
    assert run.ended[1][0] is Outcome.BAD_STREAM


def test_a_query_costs_no_more_than_it_says() -> None:
    """What most exchanges leave as it is stands in the class."""
    exchange = Exchange(1, 2, 3, 4, create_backend("vllm").reader())
    assert set(vars(exchange)) == {"query_id", "index", "due_ns", "prompt_tokens", "reader"}
