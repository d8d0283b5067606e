"""What a flag's number may be; argparse shows the error."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """A whole number from there on."""

    def number(text: str) -> int:  # argparse names it: "invalid number value"
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{value}: must be at least {least}")
        return value

    return number


natural = at_least(1)
