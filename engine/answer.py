"""One request's life: ids come in from the generator, framed bytes go out, the truth is noted.

Instants are time.monotonic_ns (LoadGen's clock as well), read just before the bytes are handed to
the socket, so that no client can have seen them earlier than the truth says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.asked import Asked
from engine.sglang_dialect import SGLang
from engine.vllm_dialect import VLLM
from engine.wire import PING, STREAM_END, STREAM_HEAD, event, response

if TYPE_CHECKING:
    from engine.connection import Connection
    from engine.server import Server

Dialect = VLLM | SGLang


@dataclass(slots=True)
class Truth:
    """What the engine did for one request; 0 and null mean "not yet" or "never"."""

    number: int
    path: str
    arrived_ns: int  # when the read that completed the request arrived
    prompt_tokens: int = 0
    prompt_sum: int = 0
    first_ns: int = 0  # when the first token was handed to the socket
    done_ns: int = 0  # when the end of the answer was
    n_tokens: int = 0
    n_events: int = 0  # events (or bodies) that carried tokens
    fault: str | None = None
    finish: str | None = None  # a finish reason, or refused, error, dropped, disconnected


class Answer:
    """An answer without faults; `engine.faults` has the other kind."""

    __slots__ = ("asked", "connection", "dialect", "ended", "held", "render", "server", "truth")

    def __init__(
        self, server: Server, connection: Connection, dialect: Dialect, asked: Asked, truth: Truth
    ) -> None:
        self.server, self.connection, self.dialect = server, connection, dialect
        self.asked, self.truth = asked, truth
        self.render = dialect.render(asked, truth.number)
        self.held: list[int] = []  # the ids of an answer that is not streamed
        self.ended = False  # the generator need not go on

    def begin(self) -> None:
        """Real engines send the head before the first token is there."""
        if self.asked.stream:
            self.connection.write(STREAM_HEAD)

    def tokens(self, ids: Sequence[int], finish: str | None = None) -> None:
        """The next ids; a finish says that they are the last ones."""
        if self.ended:
            return
        if finish is not None:
            self.finish(ids, finish)
        elif self.asked.stream:
            data = self.render.event(ids, None)
            self._note(ids)
            self.connection.write(data)
        else:
            self.held += ids

    def finish(self, ids: Sequence[int], reason: str) -> None:
        if not self.asked.stream:
            ids = [*self.held, *ids]
        data = self.closing(ids, reason)
        if ids:
            self._note(ids)
        self.close(data, reason)

    def closing(self, ids: Sequence[int], reason: str) -> bytes:
        """The bytes that end the answer: last ids, finish reason, counts."""
        if self.asked.stream:
            return self.render.event(ids, reason) + self.render.tail() + STREAM_END
        return response(200, self.render.whole(ids, reason))

    def fail(self, message: str) -> None:
        """The engine's own error: inside HTTP 200 for a stream, HTTP 500 otherwise."""
        if not self.ended:
            error = self.dialect.engine_error(message)
            stream = self.asked.stream
            self.close(event(error) + STREAM_END if stream else response(500, error), "error")

    def abort(self) -> None:
        if not self.ended:
            self.finish([], "abort")

    def close(self, data: bytes, finish: str) -> None:
        """Send the last bytes; the connection is free for the next request."""
        self.ended = True
        self.truth.done_ns, self.truth.finish = time.monotonic_ns(), finish
        self.connection.write(data)
        self.server.left(self)

    def _note(self, ids: Sequence[int]) -> None:
        truth = self.truth
        if not truth.first_ns:
            truth.first_ns = time.monotonic_ns()
        elif self.server.options.ping:
            self.connection.write(PING)
        truth.n_tokens += len(ids)
        truth.n_events += 1
