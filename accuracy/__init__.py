"""Scoring what a run answered: one scorer per dataset, one score, one verdict.

The one way in is `score_run`. It is imported when it is first used: the sandboxed processes that run
LiveCodeBench programs import this room too, and they should not wait for pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accuracy.run import score_run
    from accuracy.tally import Score

__all__ = ["Score", "score_run"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("accuracy.run"), name)
