"""vLLM's lists of batch sizes: "1,2-128:2,256" is 1, the even ones from 2 to 128, and 256."""

from __future__ import annotations

import re
from itertools import pairwise

from core.errors import ConfigError

ITEM = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
HELP = "give rising numbers and ranges, as in 1,2-128:2,256"


def parse_sizes(name: str, text: str, limit: int) -> tuple[int, ...]:
    """limit: tokens of the largest batch, above which vLLM drops a size without a word.
    Raises ConfigError."""
    ranges = [_range(name, text, item.strip()) for item in text.split(",")]
    if (largest := max(sizes[-1] for sizes in ranges)) > limit:
        raise ConfigError(
            f"{name}={text}: {largest} is above the {limit} tokens of the largest batch; "
            "lower it, or raise that one with -- --max-num-batched-tokens=N"
        )
    sizes = [size for sizes in ranges for size in sizes]
    if sizes != sorted(set(sizes)):
        out_of_order = next(b for a, b in pairwise(sizes) if b <= a)
        raise ConfigError(f"{name}={text}: {out_of_order} is out of order or twice there; {HELP}")
    return tuple(sizes)


def _range(name: str, text: str, item: str) -> range:
    found = ITEM.fullmatch(item)
    if not found:
        raise ConfigError(f"{name}={text}: {item!r} is no size; {HELP}")
    low, high, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
    if low < 1 or step < 1 or high < low:
        raise ConfigError(f"{name}={text}: {item} is no range of positive sizes; {HELP}")
    return range(low, high + 1, step)
