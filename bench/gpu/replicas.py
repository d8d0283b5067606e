"""Offline over several replicas of one machine: what each did, and how evenly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.compiles import shown
from bench.gpu.markdown import markdown
from bench.gpu.ours import Ask, Load, ours_command, run_ours, write_dataset

HEAD = ("replica", "queries", "tokens", "tokens/s while busy", "compiled")


def offline_over_all(urls: Sequence[str], ask: Ask, queries: int, folder: Path) -> dict[str, Any]:
    """One run. Raises RunError when a query fails."""
    dataset = write_dataset(folder / "data.parquet", queries, ask.isl, ids=ask.ids)
    load = Load("offline", dataset, ask.osl, queries, flags=("--warmup", "0"))
    began_s = time.time()
    summary = run_ours(load, urls, folder)
    return {
        "isl": ask.isl,
        "osl": ask.osl,
        "began_s": began_s,  # since 1970, as the next
        "ended_s": time.time(),
        "queries": summary["ok"],
        "seconds": summary["duration_s"],
        "tokens_per_s": summary["tokens_per_s"],
        "verdict": summary["verdict"],
        "balance": summary["balance"],
        "replicas": summary["replicas"],
        "command": ours_command(load, urls, folder),
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: a line a replica, and one for all, with what all together compiled."""
    rows = [
        (
            share["url"],
            f"{share['ok']:,}",
            f"{share['tokens']:,}",
            f"{share['tokens_per_s']:,.0f}",
            "",
        )
        for share in result["replicas"]
    ]
    tokens = sum(share["tokens"] for share in result["replicas"])
    speed, compiled = f"{result['tokens_per_s']:,.0f}", shown(result.get("compiles"))
    rows.append(("all", f"{result['queries']:,}", f"{tokens:,}", speed, compiled))
    return markdown(HEAD, rows)
