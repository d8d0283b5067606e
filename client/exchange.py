"""One request and its answer: from the first byte of the head to the checked token ids.

Until the first token is in, every read is decoded at once, because TTFT is the arrival of a token
and not of a head, a ping or half an event. After it, bytes are only put aside (`put_aside`) and
decoded when the answer has ended, off the critical instant, or when too many have piled up.
"""

from __future__ import annotations

from backends.base import Answer, AnswerError, AnswerReader, check_answer
from client.http import Body, EventSplitter, Head, parse_head
from core.outcome import Outcome
from core.record import Completion

MAX_ASIDE = 64 * 1024  # raw bytes kept per stream before they are decoded
MAX_ERROR_TEXT = 300


class Exchange:
    """The answer to one query while it is being received."""

    __slots__ = (
        "_body",
        "_events",
        "_head",
        "_head_bytes",
        "_plain",
        "aside",
        "aside_bytes",
        "completion",
        "first_was_sent",
        "last_ns",
        "max_tokens",
        "reader",
        "reused",
        "stream",
        "weight",
    )

    def __init__(
        self, completion: Completion, reader: AnswerReader, max_tokens: int, stream: bool
    ) -> None:
        self.completion = completion
        self.reader = reader
        self.max_tokens = max_tokens
        self.stream = stream
        self.weight = 0.0  # tokens it counts for in routing
        self.last_ns = 0  # the last arrival of anything
        self.reused = False  # sent on a connection that had served another request before
        self.first_was_sent = False
        self.aside: list[bytes] = []
        self.aside_bytes = 0
        self._head: Head | None = None
        self._head_bytes = b""
        self._body: Body | None = None
        self._events = EventSplitter()
        self._plain: list[bytes] = []

    @property
    def untouched(self) -> bool:
        """Whether not one byte of an answer has arrived."""
        return self._head is None and not self._head_bytes

    @property
    def cheap(self) -> bool:
        """Whether bytes may be put aside: the first token of a chunked event stream is in."""
        head = self._head
        return self.completion.first_token_ns != 0 and head is not None and head.chunked

    @property
    def ended(self) -> bool:
        return self._body is not None and self._body.ended

    @property
    def keep_alive(self) -> bool:
        return self._head is not None and self._head.keep_alive

    def put_aside(self, data: bytes) -> bool:
        """Keep bytes unread. True when they may hold the end, or are too many, and must be read.

        A chunked body ends in CRLF CRLF. A piece under five bytes may be a part of that end.
        """
        self.aside.append(data)
        self.aside_bytes += len(data)
        return data[-4:] == b"\r\n\r\n" or len(data) < 5 or self.aside_bytes > MAX_ASIDE

    def read_aside(self, now_ns: int) -> None:
        """Decode what was put aside. Raises AnswerError."""
        data = b"".join(self.aside)
        self.aside.clear()
        self.aside_bytes = 0
        self.read(data, now_ns)

    def read(self, data: bytes, now_ns: int) -> None:
        """Decode bytes that arrived at `now_ns`. Raises AnswerError."""
        if self._body is None:
            data = self._read_head(data)
        if self._body is None or (not data and not self._body.ended):
            return
        content = self._body.feed(data) if data else b""
        assert self._head is not None
        if self._head.status == 200 and self._head.event_stream:
            self._read_events(content, now_ns)
        else:
            self._plain.append(content)
        if self._body.ended:
            self.completion.done_ns = now_ns

    def _read_head(self, data: bytes) -> bytes:
        self._head_bytes += data
        found = parse_head(self._head_bytes)
        if found is None:
            return b""
        self._head, start = found
        self._body = self._head.body()
        self.completion.status = self._head.status
        rest = self._head_bytes[start:]
        self._head_bytes = b""
        return rest

    def _read_events(self, content: bytes, now_ns: int) -> None:
        payloads = self._events.feed(content)
        if payloads:
            self.reader.feed(payloads)
            if self.completion.first_token_ns == 0 and self.reader.ids:
                self.completion.first_token_ns = now_ns

    def close(self, now_ns: int) -> None:
        """The connection ended. Raises AnswerError unless that is how this body ends."""
        if self.aside:
            self.read_aside(now_ns)
        if self._body is not None:
            self._body.close()
        if not self.ended:
            got = f"after {len(self.reader.ids) // 4} tokens" if self._head else "before any answer"
            raise AnswerError(Outcome.DISCONNECTED, f"the engine closed the connection {got}")
        self.completion.done_ns = self.completion.done_ns or now_ns

    def finish(self) -> Answer:
        """Check the ended answer and return it. Raises AnswerError."""
        head, plain = self._head, b"".join(self._plain)
        assert head is not None
        if head.status != 200:
            text = plain[:MAX_ERROR_TEXT].decode(errors="replace")
            raise AnswerError(Outcome.HTTP_ERROR, f"HTTP {head.status}: {text}")
        if not head.event_stream:
            self.reader.feed([plain])
            if self.stream:
                raise AnswerError(Outcome.BAD_STREAM, "asked for a stream, got a single answer")
        answer = self.reader.finish()
        self._note(answer)
        check_answer(answer, self.completion.prompt_tokens, self.max_tokens)
        return answer

    def _note(self, answer: Answer) -> None:
        self.completion.n_tokens = answer.n_tokens
        self.completion.n_events = self.reader.n_events
        self.completion.finish = answer.finish
