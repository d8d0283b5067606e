"""Work side by side, which Ctrl-C and TERM end all the same.

Both reach this process's first thread alone: clients have sessions of their own, and TERM is said to
one process. So who waits here tells all that was started. It waits without being interrupted: an
exception that comes between a lock's taking and giving back would leave the threads without it, for
ever.
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
from client.signals import FOR_MAIN

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
    stopped = stopped or Event()

    def begin(work: Callable[[], T]) -> T:
        if stopped.is_set():
            raise KeyboardInterrupt
        return work()

    with deferred() as came, ThreadPoolExecutor(len(works)) as threads:
        lanes = [threads.submit(begin, work) for work in works]
        while wait(lanes, LOOK_S).not_done:
            if came:
                if not stopped.is_set() and server is not None:
                    _tell(server, signal.SIGTERM)
                stopped.set()
                _interrupt_all(server)  # each time: a lane may have been about to start a client
    if came:
        raise KeyboardInterrupt  # also where it is not the first, and so does nothing by itself
    return [lane.result() for lane in lanes]


@contextmanager
def deferred() -> Iterator[list[int]]:
    """Ctrl-C and TERM come after the block, which would leave something half done or half alive; gives
    the list of those that come. Only the first thread hears any.

    By a handler, since children would inherit that a signal is ignored.
    """
    came: list[int] = []
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in FOR_MAIN:
                before[number] = signal.getsignal(number)
                signal.signal(number, lambda number, _: came.append(number))
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _interrupt_all(server: int | None) -> None:
    """All descendants but the server's."""
    spared = {os.getpid(), *(process_tree(server) if server else ())}
    for pid in {*process_tree(os.getpid())} - spared:
        _tell(pid, signal.SIGINT)


def _tell(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
