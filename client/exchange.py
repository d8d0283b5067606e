"""One request and its answer: from the first byte of the head to the checked token ids.

Until the first token is in, every read is decoded at once, because TTFT is the arrival of a token
and not of a head, a ping or half an event. After it, bytes are only put aside (`put_aside`) and
decoded when the answer has ended, off the critical instant, or when too many have piled up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.base import Answer, AnswerError, AnswerReader, check_answer
from client.http import Body, ChunkedBody, EventSplitter, Head, plain_events, read_head
from core.outcome import Outcome
from core.record import Completion

if TYPE_CHECKING:
    from client.connection import Connection

MAX_ASIDE = 32 * 1024  # raw bytes kept per stream before they are decoded
MAX_ERROR_TEXT = 300
NEVER_NS = 1 << 62


class Exchange(Completion):
    """One query: its record in the making, and its answer while it is being received.

    Most queries leave most attributes as they are, and a default in the class costs nothing per
    query; so `__init__` sets only what every query has.
    """

    connection: Connection | None = None  # None while it waits for one
    weight = 0.0  # tokens it counts for in routing
    last_ns = 0  # the last arrival of anything
    reused = False  # sent on a connection that had served another request before
    first_was_sent = False
    cheap = False  # bytes may be put aside: the first token of a chunked event stream is in
    ended = False

    # The drain's.
    drained = False  # the socket is out of the loop
    drain_after_ns = NEVER_NS  # when to consider it
    loop_since_ns = 0
    reads = 0  # by the loop since then
    look_ns = 0  # the last look at the drained socket
    empty_looks = 0  # in a row

    _aside: bytearray
    _head: Head | None = None
    _head_bytes = b""
    _body: Body | None = None
    _events: EventSplitter | None = None
    _plain: list[bytes] | None = None

    def __init__(
        self, query_id: int, index: int, due_ns: int, prompt_tokens: int, reader: AnswerReader
    ) -> None:
        self.query_id = query_id
        self.index = index
        self.due_ns = due_ns
        self.prompt_tokens = prompt_tokens
        self.reader = reader

    @property
    def untouched(self) -> bool:
        """Whether not one byte of an answer has arrived."""
        return self._head is None and not self._head_bytes

    @property
    def keep_alive(self) -> bool:
        return self._head is not None and self._head.keep_alive

    def put_aside(self, data: bytes) -> bool:
        """Keep bytes unread. True when they may hold the end, or are too many, and must be read.

        A chunked body ends in CRLF CRLF. A piece under five bytes may be a part of that end.
        """
        aside = self._aside
        aside += data
        return data[-4:] == b"\r\n\r\n" or len(data) < 5 or len(aside) > MAX_ASIDE

    def read(self, data: bytes, now_ns: int) -> None:
        """Decode bytes that arrived at `now_ns`, after those put aside. Raises AnswerError."""
        if self.cheap:
            data = bytes(self._aside) + data
            self._aside.clear()
            data = self._skim(data)
        body = self._body
        if body is None:
            data = self._read_head(data)
            body = self._body
            if body is None:
                return
        content = body.feed(data) if data else b""
        if content:
            if self._events is not None:
                self._read_events(self._events, content, now_ns)
            elif self._plain is None:
                self._plain = [content]
            else:
                self._plain.append(content)
        if body.ended:
            self.ended = True
            self.done_ns = now_ns

    def _skim(self, data: bytes) -> bytes:
        """Take the regular part at the front of `data`; the rest, which is to be read."""
        body, events = self._body, self._events
        if isinstance(body, ChunkedBody) and events is not None and events.empty:
            data = body.take_rest() + data
            size, n = plain_events(data, self.reader.special)
            if n and self.reader.skim(data[:size], n):
                return data[size:]
        return data

    def _read_head(self, data: bytes) -> bytes:
        if self._head_bytes:
            data = self._head_bytes + data
        found = read_head(data)
        if found is None:
            self._head_bytes = data
            return b""
        head, start = found
        self._head = head
        self._head_bytes = b""
        self._body = head.body()
        self.status = head.status
        if head.event_stream and head.status == 200:
            self._events = EventSplitter()
        return data[start:]

    def _read_events(self, events: EventSplitter, content: bytes, now_ns: int) -> None:
        payloads = events.feed(content)
        if payloads:
            self.reader.feed(payloads)
            if self.first_token_ns == 0 and self.reader.ids:
                self.first_token_ns = now_ns
                assert self._head is not None
                if self._head.chunked:
                    self.cheap = True
                    self._aside = bytearray()

    def close(self, now_ns: int) -> None:
        """The connection ended. Raises AnswerError unless that is how this body ends."""
        if self.cheap:
            self.read(b"", now_ns)
        if self._body is not None:
            self._body.close()
            self.ended = self._body.ended
        if not self.ended:
            got = f"after {len(self.reader.ids) // 4} tokens" if self._head else "before any answer"
            raise AnswerError(Outcome.DISCONNECTED, f"the engine closed the connection {got}")
        self.done_ns = self.done_ns or now_ns

    def finish(self, max_tokens: int, *, stream: bool) -> Answer:
        """Check the ended answer and return it. Raises AnswerError."""
        head = self._head
        assert head is not None
        plain = b"".join(self._plain) if self._plain else b""
        if head.status != 200:
            text = plain[:MAX_ERROR_TEXT].decode(errors="replace")
            raise AnswerError(Outcome.HTTP_ERROR, f"HTTP {head.status}: {text}")
        if self._events is None:
            self.reader.feed([plain])
            if stream:
                raise AnswerError(Outcome.BAD_STREAM, "asked for a stream, got a single answer")
        answer = self.reader.finish()
        self.n_tokens = answer.n_tokens
        self.n_events = self.reader.n_events
        self.finish_reason = answer.finish
        check_answer(answer, self.prompt_tokens, max_tokens)
        return answer
