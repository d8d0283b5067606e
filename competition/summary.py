"""summary.txt of a batch: written anew whenever something changes, so that a kill leaves a true one."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from competition.console import CHECK, CROSS, RULE
from competition.profile import Lengths

State = Literal["WAITING", "RUNNING", "PASSED", "FAILED", "INTERRUPTED"]


@dataclass(slots=True)
class Step:
    """One concurrency of the batch."""

    concurrency: int
    state: State = "WAITING"
    since: str = ""  # local time of the last change
    seconds: float = 0.0
    kept: bool = False  # from an earlier run of the same batch
    reason: str = ""
    log: str = ""

    def lines(self) -> list[str]:
        name = f"CONC={self.concurrency}"
        if self.state == "WAITING":
            return [f"- {name}: not started"]
        if self.state == "RUNNING":
            return [f"- {name}: started at {self.since}, its end was not seen"]
        if self.state == "PASSED":
            return [f"{CHECK} {name}: PASSED ({'kept' if self.kept else f'{self.seconds:.0f}s'})"]
        head = f"{CROSS} {name}: {self.state} ({self.seconds:.0f}s)"
        reason = [f"    {line}" for line in self.reason.splitlines()]
        return [head, *reason, *([f"    log: {self.log}"] if self.log else [])]


class Summary:
    """Owns summary.txt."""

    def __init__(
        self, folder: Path, lengths: Lengths, mode: str, concurrencies: tuple[int, ...]
    ) -> None:
        self.steps = [Step(concurrency) for concurrency in concurrencies]
        self._folder, self._lengths, self._mode = folder, lengths, mode
        self._time = time.strftime("%c")
        self.write()

    @property
    def passed(self) -> int:
        return sum(step.state == "PASSED" for step in self.steps)

    @property
    def failed(self) -> int:
        return sum(step.state in ("FAILED", "INTERRUPTED") for step in self.steps)

    def change(self, step: Step, state: State, **more: str | float | bool) -> None:
        """Note a step's new state, at once also on disk."""
        step.state, step.since = state, time.strftime("%H:%M:%S")
        for name, value in more.items():
            setattr(step, name, value)
        self.write()

    def tail(self) -> str:
        """The last block; of a batch that broke off it says so."""
        waiting = len(self.steps) - self.passed - self.failed
        end = "Complete!" if not waiting else f"NOT complete: {waiting} not run"
        return "\n".join(
            (
                RULE,
                f"Multi-Concurrency Test {end}",
                RULE,
                f"Total tests: {len(self.steps)}",
                f"Passed: {self.passed}",
                f"Failed: {self.failed}",
                "",
                f"Results saved in: {self._folder}/",
                RULE,
            )
        )

    def write(self) -> None:
        """Whole or not at all; a full disk costs the summary, never the batch."""
        text = "\n".join(
            (
                "Multi-Concurrency Test Results",
                f"ISL: {self._lengths.isl}, OSL: {self._lengths.osl}",
                f"Mode: {self._mode}",
                f"Time: {self._time}",
                RULE,
                "",
                *(line for step in self.steps for line in step.lines()),
                "",
                self.tail(),
                "",
            )
        )
        path = self._folder / "summary.txt"
        temporary = path.with_name(f".summary.{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError:
            return
