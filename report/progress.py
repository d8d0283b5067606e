"""Progress on standard error: one line that renews itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from typing import TextIO

from core.progress import Progress

TERMINAL_EVERY_S = 0.5
PLAIN_EVERY_S = 10.0
RATE_WINDOW_S = 10.0  # the rate shown is that of the last seconds


class ProgressLine:
    """Shows snapshots of a run; `close` ends the line."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._terminal = self._out.isatty()
        self._every_s = TERMINAL_EVERY_S if self._terminal else PLAIN_EVERY_S
        self._shown_s = 0.0
        self._window: deque[Progress] = deque()
        self._width = 0

    def show(self, now: Progress) -> None:
        """Print `now` if the last line is old enough."""
        self._window.append(now)
        while now.elapsed_s - self._window[0].elapsed_s > RATE_WINDOW_S:
            self._window.popleft()
        if now.elapsed_s - self._shown_s >= self._every_s:
            self._shown_s = now.elapsed_s
            self._print(render(now, self._window[0]))

    def close(self) -> None:
        """Show the last snapshot, also of a run that was too short for a line."""
        if self._window:
            self._print(render(self._window[-1], self._window[0]))
        if self._terminal:
            self._out.write("\n")

    def _print(self, line: str) -> None:
        if self._terminal:
            self._out.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._out.write(line + "\n")
        self._out.flush()


def render(now: Progress, before: Progress) -> str:
    """One line: queries done, in flight, tokens/s, failures, time left."""
    seconds = now.elapsed_s - before.elapsed_s
    rate = (now.tokens - before.tokens) / seconds if seconds > 0 else 0.0
    total = "?" if now.total is None else f"{now.total}"
    return (
        f"{now.elapsed_s:6.0f} s  {now.done}/{total} queries  {now.issued - now.done} in flight  "
        f"{rate:,.0f} tokens/s  {now.failed} failed  {_left(now, before)}"
    )


def _left(now: Progress, before: Progress) -> str:
    done = now.done - before.done
    if now.total is None or done <= 0:
        return "time left unknown"
    seconds = (now.total - now.done) * (now.elapsed_s - before.elapsed_s) / done
    return f"{seconds:,.0f} s left"
