"""The rounds of ours and the engine's own as a table."""

from __future__ import annotations

import statistics
from typing import Any

HEAD = (
    "round",
    "order",
    "ours s",
    "own s",
    "ours tokens/s",
    "own tokens/s",
    "ours / own",
    "compiled",
)


def table(result: dict[str, Any]) -> str:
    """In Markdown: a line a round, and one of medians."""
    rounds = result["rounds"]
    lines = [HEAD, ("---",) * len(HEAD)]
    lines += [_line(str(n), ", ".join(each["order"]), each) for n, each in enumerate(rounds, 1)]
    sides = {
        side: {
            key: statistics.median(each[side][key] for each in rounds)
            for key in ("seconds", "tokens_per_s")
        }
        | {"compiles": [line for each in rounds for line in each[side]["compiles"]]}
        for side in ("ours", "own")
    }
    lines.append(_line("median", "", sides | {"ratio": result["ratio"]["median"]}))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _line(name: str, order: str, found: dict[str, Any]) -> tuple[str, ...]:
    ours, own = found["ours"], found["own"]
    return (
        name,
        order,
        f"{ours['seconds']:.2f}",
        f"{own['seconds']:.2f}",
        f"{ours['tokens_per_s']:,.0f}",
        f"{own['tokens_per_s']:,.0f}",
        f"{found['ratio']:.4f}",
        str(len(ours["compiles"]) + len(own["compiles"])),
    )
