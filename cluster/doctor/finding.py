"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# NOTE: a fact that is neither good nor bad. UNKNOWN: the check could not be made, which is not OK.
Level = Literal["OK", "NOTE", "WARN", "FAIL", "UNKNOWN"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the screen, and what to do about it."""

    level: Level
    what: str
    value: str
    remedy: str = ""


def judged(what: str, value: str, fault: Level | None, remedy: str) -> Finding:
    """OK without a fault; the remedy is told only where there is one."""
    return Finding(fault, what, value, remedy) if fault else Finding("OK", what, value)


def gib(n_bytes: float) -> str:
    """288 GiB, 0.062 GiB."""
    value = n_bytes / (1 << 30)
    return f"{value:,.0f} GiB" if value >= 10 else f"{value:.2g} GiB"


def counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "es" if noun.endswith("s") else "s")
