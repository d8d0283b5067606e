"""The rounds of ours and the engine's own as a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from bench.gpu.compiles import FIRST_ONLY, shown
from bench.gpu.markdown import markdown

HEAD = (
    "round",
    "ours s",
    "own s",
    "ours tokens/s",
    "own tokens/s",
    "ours / own",
    "compiled, ours and own",
)
SIDES = ("ours", "own")
Result = Mapping[str, Any]


def table(result: Result) -> str:
    """In Markdown: where each side ran, a line a round, and one of medians."""
    rounds = result["rounds"]
    lines = [_line(result, str(number), each) for number, each in enumerate(rounds, 1)]
    speeds = [
        f"{statistics.median(each[side][key] for each in rounds):{form}}"
        for key, form in (("seconds", ".2f"), ("tokens_per_s", ",.0f"))
        for side in SIDES
    ]
    lines.append(("median", *speeds, f"{result['ratio']['median']:.4f}", ""))
    half = any(result["watched"][side] and not result["watches_all"][side] for side in SIDES)
    foot = f"\nOf compilations: {FIRST_ONLY}.\n" if half else ""
    return f"{_where(result['gpus'])}\n\n{markdown(HEAD, lines)}{foot}"


def exchange(turns: Result, exchanged: Result) -> str:
    """What is left when both sides have had both GPUs: the geometric mean of the two medians."""
    medians = [each["ratio"]["median"] for each in (turns, exchanged)]
    return (
        f"Over both ways round: {math.sqrt(math.prod(medians)):.4f} of the engine's own speed; GPU "
        f"{turns['gpus'][0]} gives {math.sqrt(medians[0] / medians[1]):.4f} of what GPU "
        f"{turns['gpus'][1]} gives.\n"
    )


def _where(gpus: list[int]) -> str:
    if len(gpus) < 2:
        return f"On GPU {gpus[0]}: all rounds of ours, then all of the engine's own."
    return f"In turn: ours on GPU {gpus[0]}, the engine's own on GPU {gpus[1]}."


def _line(result: Result, name: str, found: Result) -> tuple[str, ...]:
    ours, own = found["ours"], found["own"]
    compiled = [
        shown(len(found[side]["compiles"]) if result["watched"][side] else None) for side in SIDES
    ]
    return (
        name,
        f"{ours['seconds']:.2f}",
        f"{own['seconds']:.2f}",
        f"{ours['tokens_per_s']:,.0f}",
        f"{own['tokens_per_s']:,.0f}",
        f"{found['ratio']:.4f}",
        " and ".join(compiled),
    )
