"""One client connection: HTTP requests in, bytes out, each write at its own instant.

Written by hand on asyncio.Protocol because a stream's events are the engine's hot path. Bytes go
to the socket by os.write at once: a transport would send at the end of the loop's turn, later than
the truth log says, and would merge what was written at different instants.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, cast

import httptools

from engine.wire import json_response

if TYPE_CHECKING:
    from engine.answer import Answer
    from engine.server import Server

LINGER_ZERO = struct.pack("ii", 1, 0)  # close sends RST instead of FIN


class Connection(asyncio.Protocol):
    """A kept-alive connection, one request at a time: engines' clients do not pipeline."""

    def __init__(self, server: Server) -> None:
        self._server, self._split = server, server.options.split
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""
        self._requests = 0  # complete and not yet answered
        self._idle: asyncio.TimerHandle | None = None
        self._persistent = True
        self._backlog = False  # the socket was full; the transport holds the rest
        self.answer: Answer | None = None
        self.arrived_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._socket = transport.get_extra_info("socket")
        self._fd = self._socket.fileno()

    def data_received(self, data: bytes) -> None:
        self.arrived_ns = time.monotonic_ns()
        if self._idle is not None:
            self._idle.cancel()
        if self._parser is None:
            return
        before = self._requests
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._requests = 2
        if self._requests > 1:
            self.write(json_response(400, {"detail": "Invalid HTTP request received."}))
            self._transport.close()
        elif self._requests > before:
            self._handle(self._parser)

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser = None  # it refers to us
        if self._idle is not None:
            self._idle.cancel()
        if self.answer is not None:
            self._server.disconnected(self.answer)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._parser is not None
        self._persistent = self._parser.should_keep_alive()  # only true to its word here
        self._requests += 1

    def _handle(self, parser: httptools.HttpRequestParser) -> None:
        path, body = self._url.partition(b"?")[0].decode("latin-1"), self._body
        self._url = self._body = b""
        self._server.handle(self, parser.get_method().decode(), path, body)

    def done(self) -> None:
        """The answer is out: wait for the next request, or close."""
        self._requests, self.answer = 0, None
        if not self._persistent:
            self._transport.close()
        elif limit_s := self._server.options.keep_alive_s:
            self._idle = asyncio.get_running_loop().call_later(limit_s, self._transport.close)

    def drop(self, *, reset: bool) -> None:
        """End the connection now; with reset the client sees ECONNRESET."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            self._transport.abort()
        else:
            self._transport.close()

    def write(self, data: bytes) -> None:
        if size := self._split:
            for start in range(0, len(data), size):
                self._send(data[start : start + size])
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        transport, sent = self._transport, 0
        if transport.is_closing():  # the descriptor may already be someone else's
            return
        if not self._backlog or not transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                pass
            except OSError:
                transport.abort()
                return
        self._backlog = sent < len(data)
        if self._backlog:
            transport.write(data[sent:])
