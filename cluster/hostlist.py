"""The nodes of a job, from Slurm's short form: n[1-3,07],login1 is n1 n2 n3 n07 login1."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from cluster.slurm import call
from core.errors import HarnessError, SetupError

PARTS = re.compile(r"\[([^\[\]]*)\]")
RANGE = re.compile(r"(\d+)(?:-(\d+))?")
MOST = 100_000  # nodes: beyond that it is a typing error
SCONTROL_LIMIT_S = 30


def hostnames(text: str) -> tuple[str, ...]:
    """As Slurm itself says; without it by the rules below. Raises SetupError."""
    try:
        done = call(["scontrol", "show", "hostnames", text], limit_s=SCONTROL_LIMIT_S)
        names = tuple(done.stdout.split()) if done.returncode == 0 else ()
    except (HarnessError, OSError):
        names = ()
    return names or expand(text)  # scontrol says nothing for a suffix: a[1-2]b


def expand(text: str) -> tuple[str, ...]:
    """Every name, in the order written, with leading zeros kept. Raises SetupError."""
    found = tuple(itertools.islice(_names(text), MOST + 1))
    if not found or len(found) > MOST or any(re.search(r"[\[\]\s]", name) for name in found):
        raise SetupError(f"{text!r}: is no list of nodes such as n[1-4],login1")
    return found


def _names(text: str) -> Iterator[str]:
    for item in re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+|[\[\]]", text):
        pieces = PARTS.split(item)  # text, ranges, text, ranges, ..., text
        choices = [
            [piece] if number % 2 == 0 else list(_numbers(piece, text))
            for number, piece in enumerate(pieces)
        ]
        yield from map("".join, itertools.product(*choices))


def _numbers(ranges: str, text: str) -> Iterator[str]:
    for part in ranges.split(","):
        match = RANGE.fullmatch(part)
        if match is None:
            raise SetupError(f"{text!r}: [{part}] is no range such as 1-4")
        low, high = match.group(1), match.group(2) or match.group(1)
        if int(high) < int(low) or int(high) - int(low) >= MOST:
            raise SetupError(f"{text!r}: [{part}] runs backwards, or too far")
        yield from (f"{n:0{len(low)}d}" for n in range(int(low), int(high) + 1))
