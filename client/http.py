"""Reading HTTP/1.1 answers: heads, the three ways a body can be framed, and server-sent events.

Every class takes bytes in pieces of any size and gives the same result for any split. The readers
keep no clock and do no I/O. They exist because the cheap path of `client.connection` must be able to
put bytes aside unread, which a callback parser cannot.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

from backends.base import AnswerError
from core.outcome import Outcome

MAX_HEAD = 64 * 1024
EVENT_END = b"}\n\n\r\n"  # and of its chunk
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked")
_CLOSE = re.compile(rb"\r\nconnection:[^\r]*close")
_EVENT_STREAM = re.compile(rb"\r\ncontent-type:[ \t]*text/event-stream")
_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})[ \r]")


def bad_http(detail: str) -> AnswerError:
    return AnswerError(Outcome.BAD_STREAM, detail)


@dataclass(frozen=True, slots=True)
class Head:
    """The part of an answer's head that matters here."""

    status: int
    keep_alive: bool
    event_stream: bool
    chunked: bool
    length: int | None

    def body(self) -> Body:
        if self.chunked:
            return ChunkedBody()
        return UntilClose() if self.length is None else FixedBody(self.length)


def read_head(data: bytes) -> tuple[Head, int] | None:
    """The head at the start of `data` and where its body begins; None while it is incomplete.

    Interim answers (1xx) are passed over. Raises AnswerError for anything that is not HTTP/1.x.
    """
    start = 0
    while True:
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            if len(data) - start > MAX_HEAD or not b"HTTP/1."[: len(data) - start].startswith(
                data[start : start + 7]
            ):
                raise bad_http(f"not an HTTP answer: {data[start : start + 60]!r}")
            return None
        head = _parse_head(data[start : end + 2])
        start = end + 4
        if head is not None:
            return head, start


@lru_cache(maxsize=512)  # an engine's heads are alike but for the length and a date in seconds
def _parse_head(text: bytes) -> Head | None:
    """None for an interim answer."""
    match = _STATUS.match(text)
    if match is None:
        raise bad_http(f"not an HTTP answer: {text[:60]!r}")
    if match[2][:1] == b"1":
        return None
    text = text.lower()
    length = _LENGTH.search(text)
    return Head(
        status=int(match[2]),
        keep_alive=match[1] == b"1" and _CLOSE.search(text) is None,
        event_stream=_EVENT_STREAM.search(text) is not None,
        chunked=_CHUNKED.search(text) is not None,
        length=int(length[1]) if length else None,
    )


class Body(ABC):
    """A body that arrives in pieces."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """Take bytes from the wire, return bytes of the body. Raises AnswerError."""

    def close(self) -> None:  # noqa: B027 - most bodies do not end so
        """The connection ended; only a body without a length ends with it."""


class FixedBody(Body):
    """Content-Length."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        super().__init__()
        self._left = length
        self.ended = length == 0

    def feed(self, data: bytes) -> bytes:
        if len(data) > self._left:
            raise bad_http(f"{len(data) - self._left} bytes after the end of the answer")
        self._left -= len(data)
        self.ended = self._left == 0
        return data


class UntilClose(Body):
    """Neither length nor chunks: the end of the connection is the end of the body."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        return data

    def close(self) -> None:
        self.ended = True


class ChunkedBody(Body):
    """Transfer-Encoding: chunked. Gives out whole chunks only; engines send an event in each."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        data = self._rest + data if self._rest else data
        position, pieces = self._take_simple(data)
        while not self.ended:
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                break
            start = line_end + 2
            size = _chunk_size(data[position:line_end])
            if size == 0:
                position = self._trailer(data, line_end, position)
                break
            end = start + size
            if len(data) < end + 2:
                break
            if data[end : end + 2] != b"\r\n":
                raise bad_http(f"chunk of {size} bytes does not end where it says")
            pieces.append(data[start:end])
            position = end + 2
        self._rest = data[position:]
        if self.ended and self._rest:
            raise bad_http(f"{len(self._rest)} bytes after the end of the answer")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @staticmethod
    def _take_simple(data: bytes) -> tuple[int, list[bytes]]:
        """The chunks at the front, if many came at once and none holds CRLF; at half the cost.

        Then lines alternate between sizes and chunks, and each size must be its chunk's length.
        """
        lines = data.split(b"\r\n")
        if len(lines) < 8:
            return 0, []
        lines.pop()  # not known to be whole
        chunks = lines[1::2]
        sizes = lines[0 : 2 * len(chunks) : 2]
        if not chunks[-1]:  # the end: it is not for here
            chunks.pop()
            sizes.pop()
        try:
            if list(map(len, chunks)) != [int(size, 16) for size in sizes] or b"" in chunks:
                return 0, []
        except ValueError:
            return 0, []
        return sum(map(len, sizes)) + sum(map(len, chunks)) + 4 * len(chunks), chunks

    def take_rest(self) -> bytes:
        """What has arrived of the next chunk."""
        rest, self._rest = self._rest, b""
        return rest

    def _trailer(self, data: bytes, line_end: int, position: int) -> int:
        end = data.find(b"\r\n\r\n", line_end)
        if end < 0:
            return position
        self.ended = True
        return end + 4


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";", 1)[0], 16)
    except ValueError:
        raise bad_http(f"not a chunk size: {line[:40]!r}") from None


def plain_events(data: bytes, special: bytes) -> tuple[int, int]:
    """Bytes and number of the events at the front that are a chunk each, before a special one.

    `data` begins with a chunk. JSON escapes line ends, so those in `data` are framing: three at each
    event's end and one behind its chunk's size. So where there are four for each end, nothing else
    is there, and no proxy has cut an event in two.
    """
    end = data.find(special)
    end = data.rfind(EVENT_END, 0, end if end >= 0 else len(data)) + len(EVENT_END)
    if end < len(EVENT_END):
        return 0, 0
    n = data.count(EVENT_END, 0, end)
    return (end, n) if data.count(b"\n", 0, end) == 4 * n else (0, 0)


class EventSplitter:
    """Server-sent events: body bytes in, the data of whole events out. Comments are dropped."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def empty(self) -> bool:
        """Whether no part of an event is held."""
        return not self._rest

    def feed(self, data: bytes) -> list[bytes]:
        data = self._rest + data if self._rest else data
        held = b""
        if b"\r" in data:  # JSON escapes carriage returns, so these are line ends
            if data.endswith(b"\r"):
                data, held = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events = data.split(b"\n\n")
        self._rest = events.pop() + held
        return [payload for event in events if (payload := _payload(event)) is not None]


def _payload(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [
        line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None
