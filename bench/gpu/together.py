"""Work side by side, which Ctrl-C and TERM end all the same.

Both reach this process's first thread alone: clients have sessions of their own, and TERM is said to
one process. So who waits here tells all that was started.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from threading import Event
from typing import TypeVar

from bench.processes import process_tree

LOOK_S = 0.5
INTERRUPTED = "interrupted"  # the error of what ended early for that
T = TypeVar("T")


def together(
    works: Sequence[Callable[[], T]], server: int | None = None, stopped: Event | None = None
) -> list[T]:
    """Each in a thread of its own; what they give, in order. Raises what the first of them raised.

    server: the process that started replicas; it is told once, and tells them itself. stopped: is set
    when all is to end, for work that has parts.
    """
    stopped, busy = stopped or Event(), set[int]()

    def follow(number: int) -> T:
        busy.add(number)
        try:
            if stopped.is_set():
                raise KeyboardInterrupt
            return works[number]()
        finally:
            busy.discard(number)

    with ThreadPoolExecutor(len(works)) as threads:
        try:
            futures = [threads.submit(follow, number) for number in range(len(works))]
            wait(futures)
        except KeyboardInterrupt:  # which may come before all are submitted
            stopped.set()
            with deaf():
                if server is not None:
                    _tell(server, signal.SIGTERM)
                while busy:  # one may be about to start a client
                    _interrupt_all(server)
                    Event().wait(LOOK_S)
            raise
    return [future.result() for future in futures]


@contextmanager
def deaf() -> Iterator[None]:
    """Ctrl-C and TERM change nothing while something is being ended, which would be left half alive.

    By a handler, since children would inherit that a signal is ignored; only the first thread has any.
    """
    first = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if first else ()
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _interrupt_all(server: int | None) -> None:
    """All descendants but the server's."""
    spared = {os.getpid(), *(process_tree(server) if server else ())}
    for pid in {*process_tree(os.getpid())} - spared:
        _tell(pid, signal.SIGINT)


def _tell(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
