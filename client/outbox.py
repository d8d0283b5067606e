"""The worker's end of the result pipe: one write for all of a turn's messages, never blocks, never
drops."""

from __future__ import annotations

import os
from collections.abc import Callable

from client.reactor import WRITE, Reactor


class Outbox:
    """Messages on their way to the main process."""

    def __init__(self, reactor: Reactor, fd: int, on_broken: Callable[[], None]) -> None:
        os.set_blocking(fd, False)
        self._reactor = reactor
        self._fd = fd
        self._messages = reactor.messages
        self._unsent = memoryview(b"")  # goes first, once the reactor says that the pipe has room
        self._on_broken = on_broken  # called when nobody reads any more
        self.put = self._messages.append
        reactor.turn_end = self.flush

    @property
    def empty(self) -> bool:
        return not self._messages and not self._unsent

    def flush(self) -> None:
        """Write what was put; called at the end of each turn of the loop."""
        messages = self._messages
        if not messages or self._unsent:
            return
        data = messages[0] if len(messages) == 1 else b"".join(messages)
        messages.clear()
        if self._write(memoryview(data)):
            self._reactor.watch(self._fd, self._resume, WRITE)

    def _write(self, data: memoryview) -> bool:
        """Write as much as the pipe takes; whether something is left."""
        try:
            data = data[os.write(self._fd, data) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._on_broken()
            data = data[:0]
        self._unsent = data
        return len(data) > 0

    def _resume(self, mask: int) -> None:
        if not self._write(self._unsent):
            self._reactor.forget(self._fd)  # the turn's end writes what was put in the meantime
