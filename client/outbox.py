"""The worker's end of the result pipe: batches messages of one loop turn, never blocks, never drops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class Outbox:
    """Messages on their way to the main process."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, on_broken: Callable[[], None]
    ) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._messages: list[bytes] = []
        self._scheduled = False
        self._on_empty: Callable[[], None] | None = None
        self._on_broken = on_broken  # called when nobody reads any more

    def put(self, message: bytes) -> None:
        self._messages.append(message)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def when_empty(self, callback: Callable[[], None]) -> None:
        """Call back once, as soon as everything put so far has been written."""
        self._on_empty = callback
        if not self._messages:
            callback()

    def _flush(self) -> None:
        data = self._messages[0] if len(self._messages) == 1 else b"".join(self._messages)
        self._messages.clear()
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except BrokenPipeError:
            self._on_broken()
            return
        if written < len(data):
            self._messages.append(data[written:])
            self._loop.add_writer(self._fd, self._resume)
            return
        self._scheduled = False
        if self._on_empty is not None:
            self._on_empty()

    def _resume(self) -> None:
        self._loop.remove_writer(self._fd)
        self._flush()
