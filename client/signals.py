"""Being stopped: TERM is Slurm's Ctrl-C, said to every process of a job at once, and more than once.

The main process stops on the first and then saves what there is, within the 30 s that Slurm gives.
Its helpers take no notice: it needs them for that, and ends them itself.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

FOR_MAIN = {signal.SIGINT, signal.SIGTERM}


def interrupt_once(*numbers: signal.Signals) -> None:
    """From now on the first of these raises KeyboardInterrupt, and no other does anything.

    Children that are started after it ignore them, too.
    """

    def interrupt(*_: object) -> None:
        # Before raising: the second may come before any code that catches the first. And not by a
        # handler, which Python undoes at its own end.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started in the block hear neither signal, from their first instruction on:
    what is blocked here stays blocked there."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_MAIN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
