"""How rows of the card are laid out."""

from __future__ import annotations

import re
import textwrap

WIDTH = 78
INDENT = 12
MS = 1e6
UNIT = re.compile(r"(?<=\d) (?=(?:ms|s|%)(?:\W|$))")
GLUE = "\u00a0"  # a space that is not broken at


def flow(label: str, text: str) -> list[str]:
    """A row whose text goes on below itself where it is too long."""
    lines = textwrap.wrap(
        UNIT.sub(GLUE, text),
        WIDTH,
        initial_indent=label.ljust(INDENT),
        subsequent_indent=" " * max(INDENT, len(label)),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(GLUE, " ") for line in lines]


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"
