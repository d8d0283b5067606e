"""What an accuracy test hands to the gate, and how it tells that it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

TENTHS = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures, before they are compared with anything."""

    metrics: dict[str, float]
    notes: tuple[str, ...]  # sentences for the reader
    # Among others `whole`: all of the test was asked, and `comparable`: as the baseline was.
    details: dict[str, Any]


@dataclass(slots=True)
class Progress:
    """Says a line about every tenth; counts from many threads."""

    what: str
    total: int
    say: Callable[[str], None]
    done: int = 0
    _lock: Lock = field(default_factory=Lock)

    def add(self, number: int = 1) -> None:
        with self._lock:
            before, self.done = self.done, self.done + number
            if before * TENTHS // self.total < self.done * TENTHS // self.total:
                share = 100 * self.done // self.total
                self.say(f"{self.what}: {self.done} of {self.total} ({share} %)")
