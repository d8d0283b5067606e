"""What a flag's text may be; argparse shows the error."""

from __future__ import annotations

import argparse
import math


def above_0(text: str) -> float:
    if not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0")
    return float(text)


def words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def numbers(text: str) -> tuple[int, ...]:
    found = tuple(int(word) for word in words(text))
    if not found or len(set(found)) < len(found) or min(found) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: empty, or a GPU stands in it twice")
    return found
