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
from contextlib import contextmanager, suppress
from threading import Event
from typing import Generic, TypeVar

from bench.processes import process_tree

LOOK_S = 0.5
INTERRUPTED = "interrupted"  # the error of what ended early for that
SIGNALS = (signal.SIGINT, signal.SIGTERM)
T = TypeVar("T")


class Lane(threading.Thread, Generic[T]):
    """One of the works."""

    def __init__(self, work: Callable[[], T], stopped: Event) -> None:
        super().__init__()
        self._work, self._stopped = work, stopped
        self._gave: list[T] = []
        self._raised: BaseException | None = None

    def run(self) -> None:
        try:
            if self._stopped.is_set():
                raise KeyboardInterrupt
            self._gave.append(self._work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is wanted
            self._raised = error

    def result(self) -> T:
        """After its end."""
        if self._raised is not None:
            raise self._raised
        return self._gave[0]


def together(
    works: Sequence[Callable[[], T]], server: int | None = None, stopped: Event | None = None
) -> list[T]:
    """Each in a thread of its own; what they give, in order. Raises what the first of them raised.

    server: the process that started replicas; it is told once, and tells them itself. stopped: is set
    when all is to end, for work that has parts.
    """
    stopped = stopped or Event()
    lanes = [Lane(work, stopped) for work in works]
    with deferred() as came:
        for lane in lanes:
            lane.start()
        while living := [lane for lane in lanes if lane.is_alive()]:
            if came:
                if not stopped.is_set() and server is not None:
                    _tell(server, signal.SIGTERM)
                stopped.set()
                _interrupt_all(server)  # each time: a lane may have been about to start a client
            living[0].join(LOOK_S)
    if came:
        raise KeyboardInterrupt  # also where it is not the first, and so does nothing by itself
    return [lane.result() for lane in lanes]


def interrupt_once() -> None:
    """From now on the first Ctrl-C or TERM raises KeyboardInterrupt, and no other does anything: what
    was measured is stored in peace, however often somebody presses. No process may be started after it,
    which would ignore both."""

    def interrupt(*_: object) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # Python's own end undoes handlers, but not this
        raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, interrupt)


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
            for number in SIGNALS:
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
