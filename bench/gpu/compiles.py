"""What an engine compiled during a measured run, by its log: such a run measures the compiler, too.

vLLM 0.26 watches Triton, CuTeDSL and TileLang once its warm-up is over (vllm/utils/jit_monitor.py) and
warns of each kernel's first compilation; with `--jit-monitor-verbose` of every one, such as for another
size: see `watches_all`. No warning proves nothing where nobody watches: see `watched`.

Lines that vLLM logs have a time, to the second. Those that a compiler prints have none and are of some
time between the lines around them, because the engines' output is not buffered (bench/gpu/served.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from pathlib import Path

from server.process import ANSI

MAX_LINE = 400  # characters: the monitor's have thousands
SECOND_S, DAY_S = 1, 86_400
STAMP = re.compile(r"\b(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)\b")
WATCHED = "Kernel JIT monitor activated"
VERBOSE = re.compile(r"\bjit_monitor_verbose(?:=|': )True\b")  # in its settings, which it logs
FIRST_ONLY = "first compilations only: the engine runs without --jit-monitor-verbose"
COMPILES = re.compile(
    "|".join(
        (
            r"JIT compilation during inference",  # the monitor
            r"Triton autotuning for function",  # Triton, which the monitor has told to speak
            r"\[Autotuner\]: Autotuning process starts",  # FlashInfer
            r"\bAUTOTUNE \w+\(",  # Inductor
            r"torch\._dynamo hit config\.",  # gave up after so many recompilations
            r"Dynamo bytecode transform time",  # vLLM's torch.compile, as all below
            r"Compiling a graph for",
            r"torch\.compile (?:and initial profiling/warmup run together )?took",
            r"[Gg]raph capturing finished",
        )
    )
)


@dataclass(frozen=True, slots=True)
class Compile:
    """A line that tells of a compilation or a search for the fastest kernel, and of when.

    It is of the line's own second, or lies between the last time before it and the first after it.
    """

    line: str
    from_s: float  # since 1970, as the next; -inf: nothing before it has a time
    until_s: float  # inf: nothing after it has one


@dataclass(frozen=True, slots=True)
class LogMark:
    """An engine's log, and how long it was at some time."""

    log: Path
    size: int  # bytes

    @classmethod
    def at(cls, log: Path) -> LogMark:
        """Now. Raises OSError where there is no log."""
        return cls(log, log.stat().st_size)

    def compiles_since(self) -> tuple[str, ...]:
        """The lines since then that tell of a compilation. Raises OSError."""
        return tuple(found.line for found in self.found_since())

    def found_since(self) -> tuple[Compile, ...]:
        """The same with their times, for which the log before the mark is read, too."""
        log = self.log.read_bytes()
        start = log.rfind(b"\n", 0, self.size) + 1  # what was half a line then is whole now
        earlier = map(_time, reversed(lines_of(log[:start])))
        lines = lines_of(log[start:])
        times = [_time(line) for line in lines]
        froms = _filled(times, next((moment for moment in earlier if moment is not None), -inf))
        untils = reversed(_filled(reversed(times), inf))
        return tuple(
            Compile(line[:MAX_LINE], from_s, until_s + SECOND_S)
            for line, from_s, until_s in zip(lines, froms, untils, strict=True)
            if COMPILES.search(line)
        )


def _filled(times: Iterable[float | None], first_s: float) -> list[float]:
    """Where there is no time, the one before it."""
    return [*accumulate(times, lambda last, new: last if new is None else new, initial=first_s)][1:]


def _time(line: str) -> float | None:
    """Seconds since 1970. A line has this machine's zone and no year: the last that is no future."""
    found = STAMP.search(line)
    if found is None:
        return None
    now = time.time()
    year = time.localtime(now).tm_year
    month, day, hour, minute, second = map(int, found.groups())
    years = ((y, month, day, hour, minute, second, 0, 0, -1) for y in (year, year - 1))
    this, last = map(time.mktime, years)
    return this if this < now + DAY_S else last


def compiled_between(found: Iterable[Compile], began_s: float, ended_s: float) -> int:
    """How many may be of that time (seconds since 1970): none that is of it is missed, and a line that
    may be of two runs counts for both."""
    return sum(each.from_s <= ended_s and began_s < each.until_s for each in found)


def shown(compiles: int | None) -> str:
    """For a table; None: nobody watched."""
    return "?" if compiles is None else str(compiles)


def watched(log: Path) -> bool:
    """Whether the engine watches itself for compilations since its warm-up. Raises OSError."""
    return any(WATCHED in line for line in lines_of(log.read_bytes()))


def watches_all(log: Path) -> bool:
    """Whether it would tell of every compilation, not of each kernel's first alone. Raises OSError."""
    return any(VERBOSE.search(line) for line in lines_of(log.read_bytes()))


def lines_of(log: bytes) -> Sequence[str]:
    """Without colours; what a progress bar overwrote is a line of its own."""
    return re.split(r"[\r\n]+", ANSI.sub("", log.decode("utf-8", "replace")))
