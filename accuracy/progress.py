"""How far scoring is: one line that renews itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_TERMINAL_EVERY_S, _PLAIN_EVERY_S = 0.2, 10.0
_BAR = 30


class ScoringProgress:
    """Call it with samples done and expected; `close` ends the line."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._terminal = self._out.isatty()
        self._started_s = self._shown_s = time.monotonic()
        self._first: int | None = None  # samples that an earlier attempt had scored

    def __call__(self, done: int, expected: int) -> None:
        now_s = time.monotonic()
        if self._first is None:
            self._first = done
        elif now_s - self._shown_s < (_TERMINAL_EVERY_S if self._terminal else _PLAIN_EVERY_S):
            return
        self._shown_s = now_s
        self._print(render(done, expected, self._first, now_s - self._started_s))

    def close(self) -> None:
        if self._terminal:
            self._out.write("\n")

    def _print(self, line: str) -> None:
        self._out.write(f"\r\033[K{line}" if self._terminal else f"{line}\n")
        self._out.flush()


def render(done: int, expected: int, first: int, elapsed_s: float) -> str:
    """A bar, the count, samples a second, and the time left."""
    filled = min(_BAR, _BAR * done // expected)
    rate = (done - first) / elapsed_s if elapsed_s > 0 else 0.0
    left = f"{max(0, expected - done) / rate:,.0f} s left" if rate else "time left unknown"
    bar = "#" * filled + "." * (_BAR - filled)
    return f"scoring [{bar}] {done}/{expected} samples  {rate:,.1f}/s  {left}"
