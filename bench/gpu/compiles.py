"""What an engine compiled during a measured run, by its log: such a run measures the compiler, too.

vLLM 0.26 watches Triton, CuTeDSL and TileLang once its warm-up is over (vllm/utils/jit_monitor.py) and
warns of each kernel's first compilation; with `--jit-monitor-verbose` of every one. No warning proves
nothing where nobody watches: see `watched`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.process import ANSI

MAX_LINE = 400  # characters: the monitor's have thousands
STAMP = re.compile(r"\b\d\d-\d\d \d\d:\d\d:\d\d\b")
WATCHED = "Kernel JIT monitor activated"
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
class LogMark:
    """An engine's log, and how long it was at some time."""

    log: Path
    size: int  # bytes

    @classmethod
    def at(cls, log: Path) -> LogMark:
        """Now. Raises OSError where there is no log."""
        return cls(log, log.stat().st_size)

    def compiles_since(self) -> tuple[str, ...]:
        """The lines since then that tell of a compilation or a search for the fastest kernel."""
        with self.log.open("rb") as file:
            file.seek(self.size)
            lines = lines_of(file.read())
        return tuple(line[:MAX_LINE] for line in lines if COMPILES.search(line))


def compiled_between(lines: Iterable[str], began_s: float, ended_s: float) -> int:
    """How many of the lines are of that time (seconds since 1970), as far as their second tells.

    A line has month, day and time of this machine's zone; the year is the end's.
    """
    year = time.localtime(ended_s).tm_year
    stamps = (found for line in lines if (found := STAMP.search(line)))
    times = (
        time.mktime(time.strptime(f"{year}-{stamp[0]}", "%Y-%m-%d %H:%M:%S")) for stamp in stamps
    )
    return sum(int(began_s) <= moment <= ended_s for moment in times)


def shown(compiles: int | None) -> str:
    """For a table; None: nobody watched."""
    return "?" if compiles is None else str(compiles)


def watched(log: Path) -> bool:
    """Whether the engine watches itself for compilations since its warm-up."""
    return any(WATCHED in line for line in lines_of(log.read_bytes()))


def lines_of(log: bytes) -> Sequence[str]:
    """Without colours; what a progress bar overwrote is a line of its own."""
    return re.split(r"[\r\n]+", ANSI.sub("", log.decode("utf-8", "replace")))
