"""HTTP/1.1 bytes: framing only, no sockets.

Like uvicorn under vLLM and SGLang: every server-sent event is a chunk of its own, the stream ends
with `data: [DONE]` and the zero chunk; anything else carries a content-length.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import orjson

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

Page = Callable[[bytes], bytes]  # request body -> whole HTTP response
Pages = dict[tuple[str, str], Page]  # by method and path


def response(status: int, body: bytes = b"", kind: str = JSON) -> bytes:
    """A whole response, head and body."""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def json_response(status: int, value: object) -> bytes:
    return response(status, orjson.dumps(value))


def event(*json: bytes) -> bytes:
    """One server-sent event in a chunk of its own; the JSON may come in pieces."""
    text = b"".join(json)
    return b"%x\r\ndata: %b\n\n\r\n" % (len(text) + 8, text)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
STREAM_END = event(b"[DONE]") + b"0\r\n\r\n"
PING = b"8\r\n: ping\n\n\r\n"


def error_stream(json: bytes) -> bytes:
    """A stream that holds nothing but an error: HTTP 200 all the same."""
    return STREAM_HEAD + event(json) + STREAM_END
