"""GPQA diamond: one letter from A to D.

Rules (facts/mlperf.md, section 4), the first that finds a letter decides:
1. the final section starts with it: non-letters, the letter, then no letter;
2. the first "answer", optional : or ., and a letter that is a whole word, in the final section;
3. the last "ANSWER" or "FINAL ANSWER", optional : or =, and a letter that may stand in parentheses,
   then no letter, in the whole text.

The patterns accept what the reference's accept, but spaces have one place each in them: the
reference's rule 3 takes cubic time on an answer that ends in thousands of line ends.
"""

from __future__ import annotations

import re

from accuracy.contract import Answer, Resources, Scored, compare, nothing

_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_START = re.compile(r"[^a-zA-Z]*+([A-D])(?![a-zA-Z])", re.IGNORECASE)
_FIRST = re.compile(r"\banswer\s*+(?:[:.]\s*+)?([A-D])\b", re.IGNORECASE)
_LAST = re.compile(
    r"\b(?:final\s*+)?answer\b\s*+(?:[:=]\s*+)?(?:\(\s*+)?([A-D])(?![a-zA-Z])", re.IGNORECASE
)


def score(answer: Answer, truth: object, resources: Resources) -> Scored:
    """Compare in upper case, exactly: a truth of "(B)" or "B " is never met."""
    letter = extract(answer)
    if letter is None:
        return nothing("letter from A to D")
    return compare(isinstance(truth, str) and truth.upper() == letter, letter, truth)


def extract(answer: Answer) -> str | None:
    """The letter that counts, in upper case, or None."""
    section = _unescape(_unquote(_BOLD.sub(r"\1", answer.section)))
    found = _START.match(section.strip()) or _FIRST.search(section)
    if found:
        return found[1].upper()
    letters: list[str] = _LAST.findall(_unescape(answer.text))
    return letters[-1].upper() if letters else None


def _unquote(text: str) -> str:
    """Take off the brackets and quotes of a list of one text."""
    quoted = text.startswith(("['", '["')) and text.endswith(("']", '"]'))
    return text[2:-2].strip() if quoted else text


def _unescape(text: str) -> str:
    r"""Make a literal \n a line end, and a literal \' a quote."""
    return text.replace("\\n", "\n").replace("\\'", "'")
