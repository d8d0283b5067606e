"""The worker's event loop: epoll, a few timers, and what runs at the end of each turn.

Not asyncio: a transport and a callback queue between the kernel and the reader would cost more than
reading, and a stream that is drained must be able to leave the loop and come back. One thread.
"""

from __future__ import annotations

import select
from array import array
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from time import monotonic_ns, sleep

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
Handler = Callable[[int], None]  # takes the epoll events


class Reactor:
    """Calls handlers of descriptors that are ready, and timers that are due."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._forgotten: set[int] = set()  # in this turn
        self._timers: list[tuple[int, int, Callable[[], None]]] = []  # heap of due_ns, number, ...
        self._number = count()
        self._stopped = False
        self.messages: list[bytes] = []  # `turn_end` is called after a turn that leaves some here
        self.turn_end: Callable[[], None] = lambda: None
        self.turns = array("q")  # durations in nanoseconds; who counts them empties it

    def watch(self, fd: int, handler: Handler, mask: int = READ) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, mask)

    def rewatch(self, fd: int, handler: Handler, mask: int = READ) -> None:
        """Change what a watched descriptor waits for."""
        self._handlers[fd] = handler
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """Stop watching; before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            self._forgotten.add(fd)

    def at(self, due_ns: int, callback: Callable[[], None]) -> None:
        """Call back once, at `due_ns` or up to a millisecond later."""
        heappush(self._timers, (due_ns, next(self._number), callback))

    def every(self, period_s: float, callback: Callable[[], None]) -> None:
        """Call back about every `period_s` seconds; a period that was missed is not made up for."""

        def again() -> None:
            callback()
            self.at(monotonic_ns() + period_ns, again)

        period_ns = int(period_s * 1e9)
        self.at(monotonic_ns() + period_ns, again)

    def stop(self) -> None:
        self._stopped = True

    def run(self, pause_s: float = 0.0) -> None:
        """Turn until stopped. A pause before each turn gathers more for it, where no time counts."""
        poll, handlers, timers = self._epoll.poll, self._handlers, self._timers
        forgotten = self._forgotten
        messages = self.messages
        now_ns = monotonic_ns()
        while not self._stopped:
            if pause_s:
                sleep(pause_s)
            ready = poll(max(0, timers[0][0] - now_ns) / 1e9 if timers else None)
            start_ns = monotonic_ns()
            forgotten.clear()
            for fd, mask in ready:
                # A number that was forgotten in this turn may be another descriptor's by now. Events
                # found before are not for that one; its own will be found in the next turn.
                if fd not in forgotten:
                    handlers[fd](mask)
            while timers and timers[0][0] <= start_ns:
                heappop(timers)[2]()
            if messages:
                self.turn_end()
            now_ns = monotonic_ns()
            self.turns.append(now_ns - start_ns)
