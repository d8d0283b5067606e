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
        self._full = False  # the pipe is; the reactor tells when it has room again
        self._on_broken = on_broken  # called when nobody reads any more
        self.put = self._messages.append
        reactor.turn_end = self.flush

    @property
    def empty(self) -> bool:
        return not self._messages

    def flush(self) -> None:
        """Write what was put; called at the end of each turn of the loop."""
        messages = self._messages
        if not messages or self._full:
            return
        data = messages[0] if len(messages) == 1 else b"".join(messages)
        messages.clear()
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except BrokenPipeError:
            self._on_broken()
            return
        if written < len(data):
            messages.append(data[written:])
            self._full = True
            self._reactor.watch(self._fd, self._resume, WRITE)

    def _resume(self, mask: int) -> None:
        self._reactor.forget(self._fd)
        self._full = False
        self.flush()
