"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

from core.progress import Progress
from report.progress import ProgressLine, render


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at(seconds: float, done: int, failed: int = 0) -> Progress:
    return Progress(seconds, 100, 100, done, failed, done * 10)


def test_a_line_says_what_is_done_and_what_is_left() -> None:
    line = render(at(20, 40, failed=3), at(10, 20))
    assert "40/100 queries" in line and "60 in flight" in line
    assert "20 tokens/s" in line and "3 failed" in line and "30 s left" in line
    assert "time left unknown" in render(at(0, 0), at(0, 0))


def test_plain_lines_are_rare_and_the_last_one_always_comes() -> None:
    out = io.StringIO()
    progress = ProgressLine(out)
    for second in range(26):
        progress.show(at(second, second))
    progress.close()
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["10", "20", "25"]
    assert "\r" not in out.getvalue()


def test_a_terminal_gets_one_line_that_renews_itself() -> None:
    out = Terminal()
    progress = ProgressLine(out)
    for second in range(5):
        progress.show(at(second, second))
    progress.close()
    assert out.getvalue().count("\n") == 1 and out.getvalue().count("\r") >= 4
