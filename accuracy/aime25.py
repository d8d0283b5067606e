r"""AIME 2025: an integer from 0 to 999.

Rules (facts/mlperf.md, section 4): in the whole text, reasoning included, the last \boxed{digits};
without any, the last "Answer:" with digits that end a word and are not followed by a point. A value
out of range is no answer, and nothing else is tried then.
"""

from __future__ import annotations

import re
from typing import SupportsInt

from accuracy.contract import Answer, Resources, Scored, compare, nothing

_BOXED = re.compile(r"\\boxed\{\s*(\d+)\s*\}")
_ANSWER = re.compile(r"answer:\s*(\d+)(?!\.)\b", re.IGNORECASE)
_MAX_DIGITS = 4300  # more are refused by int(), in the reference too


def score(answer: Answer, truth: object, resources: Resources) -> Scored:
    """Compare as integers: "007" is 7, a truth of "204.0" is none."""
    value = extract(answer)
    if value is None:
        return nothing("integer from 0 to 999")
    return compare(value == _integer(truth), str(value), truth)


def extract(answer: Answer) -> int | None:
    """The integer that counts, or None."""
    found = _BOXED.findall(answer.text) or _ANSWER.findall(answer.text)
    if not found or len(found[-1]) > _MAX_DIGITS:
        return None
    value = int(found[-1])
    return value if value <= 999 else None


def _integer(truth: object) -> int | None:
    if not isinstance(truth, str | SupportsInt):
        return None
    try:
        return int(truth)
    except (ValueError, OverflowError):
        return None
