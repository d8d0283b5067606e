"""Asking replicas for `/metrics`, over connections that are kept alive.

Replicas are asked in turn over the whole interval, so that neither the engines' answers nor our
search through them come in a burst. Nothing here is an error: a replica that does not answer in
time gives no sample, and is asked again at its next turn.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic_ns
from typing import cast
from urllib.parse import urlsplit

import httptools

from telemetry.prometheus import read_metrics
from telemetry.sample import ReplicaSample

ANSWER_LIMIT_NS = 1_000_000_000
MAX_PAGE = 8 << 20  # bytes
STEPS = 16  # of an interval: a wake-up costs more than a page does


class Connection(asyncio.Protocol):
    """One connection to one replica, on which one page at a time is asked for."""

    def __init__(self, request: bytes, on_page: Callable[[int, bytes], None]) -> None:
        self._request = request
        self._on_page = on_page
        self._transport: asyncio.Transport | None = None
        self._body = bytearray()
        self.asked_ns = 0  # 0: nothing is under way

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self) -> None:
        assert self._transport is not None
        self.asked_ns = monotonic_ns()
        self._parser = httptools.HttpResponseParser(self)
        self._body.clear()
        self._transport.write(self._request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio's and httptools' callbacks -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.asked_ns == 0 or len(self._body) > MAX_PAGE:
            return self.close()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        in_time = monotonic_ns() - self.asked_ns <= ANSWER_LIMIT_NS
        self.asked_ns = 0
        if not self._parser.should_keep_alive():
            self.close()
        if in_time:
            self._on_page(self._parser.get_status_code(), bytes(self._body))


class Replica:
    """One engine, asked when it is its turn."""

    def __init__(self, number: int, url: str, deliver: Callable[[ReplicaSample], None]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._number = number
        self._request = f"GET /metrics HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        self._deliver = deliver
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._absent = False  # it has no such page, and need not be asked again

    def turn(self) -> None:
        connection = self._connection
        if self._absent or (self._connecting is not None and not self._connecting.done()):
            return
        if connection is not None and connection.usable:
            if connection.asked_ns == 0:
                return connection.ask()
            if monotonic_ns() - connection.asked_ns < ANSWER_LIMIT_NS:
                return None
            connection.close()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())
        return None

    async def close(self) -> None:
        """Let go of its connection, and wait until that is done."""
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._connecting
        if self._connection is not None:
            self._connection.close()
        await asyncio.sleep(0)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(ANSWER_LIMIT_NS / 1e9):
                _, self._connection = await loop.create_connection(
                    lambda: Connection(self._request, self._page), self._host, self._port
                )
                self._connection.ask()

    def _page(self, status: int, body: bytes) -> None:
        if status == 200:
            self._deliver(read_metrics(body, self._number, monotonic_ns()))
        elif status == 404:
            self._absent = True
            self._deliver(ReplicaSample(self._number, monotonic_ns()))


async def poll(replicas: Sequence[Replica], interval_s: float) -> None:
    """Give every replica its turn once an interval, for ever."""
    loop = asyncio.get_running_loop()
    at_once = math.ceil(len(replicas) / STEPS)
    step_s = interval_s / math.ceil(len(replicas) / at_once)
    due = loop.time()
    while True:
        for first in range(0, len(replicas), at_once):
            for replica in replicas[first : first + at_once]:
                replica.turn()
            due = max(due + step_s, loop.time() - interval_s)  # what was missed is not made up for
            await asyncio.sleep(due - loop.time())
