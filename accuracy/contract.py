"""The contract of a scorer: an answer in, a verdict with the extracted answer out.

A scorer is a module with `score(answer, truth, resources) -> Scored`, and a line in
`accuracy.registry`. It follows the reference evaluator to the letter, also where that looks odd: the
evaluator's number is the one that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from accuracy.lcb_problem import Problem

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One answer as every rule needs it."""

    ids: Ids
    text: str  # all tokens decoded, special ones as <|channel|> and so on, outer space stripped
    final: str | None  # content of the first final section, stripped; None when there is none
    look_alike: bool = False  # plain tokens spell a special one, so that ids and text may disagree

    @property
    def section(self) -> str:
        """The final section, or without one the whole text, which is no fault by itself."""
        return self.text if self.final is None else self.final


@dataclass(frozen=True, slots=True)
class Resources:
    """What a scorer may need beyond answer and ground truth."""

    lcb_problems: Mapping[str, Problem] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scored:
    """A scorer's verdict. `fault`: the harness could not judge, so that no score may rest on it."""

    correct: bool
    extracted: str | None
    reason: str
    fault: bool = False


class Scorer(Protocol):
    """The signature of a scorer; `truth` is the cell of the reference data, None where empty."""

    def __call__(self, answer: Answer, truth: object, resources: Resources) -> Scored: ...


def compare(correct: bool, extracted: str, truth: object) -> Scored:
    """The verdict on an answer that was found."""
    reason = "correct" if correct else f"{extracted!r} is not {truth!r}"
    return Scored(correct, extracted, reason)


def nothing(what: str) -> Scored:
    """The verdict on an answer in which nothing was found."""
    return Scored(False, None, f"no {what} found")
