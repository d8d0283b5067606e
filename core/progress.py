"""How far a run is; what the SUT tells and the report shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of a running test."""

    elapsed_s: float
    total: int | None  # queries; None until known
    issued: int
    done: int
    failed: int
    tokens: int
