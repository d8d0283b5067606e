"""Offline over several replicas of one machine: what each did, and how evenly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.ours import Load, ours_command, run_ours, write_dataset


def offline_over_all(
    urls: Sequence[str], isl: int, osl: int, queries: int, ids: tuple[int, int], folder: Path
) -> dict[str, Any]:
    """One run. Raises RunError when a query fails."""
    dataset = write_dataset(folder / "data.parquet", queries, isl, ids=ids)
    load = Load("offline", dataset, osl, queries, flags=("--warmup", "0"))
    summary = run_ours(load, urls, folder)
    return {
        "isl": isl,
        "osl": osl,
        "queries": summary["ok"],
        "seconds": summary["duration_s"],
        "tokens_per_s": summary["tokens_per_s"],
        "verdict": summary["verdict"],
        "balance": summary["balance"],
        "replicas": summary["replicas"],
        "command": ours_command(load, urls, folder),
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: a line a replica, and one for all."""
    rows = ["| replica | queries | tokens | tokens/s while busy |", "|---|---|---|---|"]
    for share in result["replicas"]:
        rows.append(
            f"| {share['url']} | {share['ok']:,} | {share['tokens']:,} | "
            f"{share['tokens_per_s']:,.0f} |"
        )
    tokens = sum(share["tokens"] for share in result["replicas"])
    rows.append(f"| all | {result['queries']:,} | {tokens:,} | {result['tokens_per_s']:,.0f} |")
    return "\n".join(rows)
