"""The harness's own tiny model, on the CPU and on a GPU: the same Offline run over both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.ours import ROOT, Load, run_ours
from bench.gpu.served import serve

DATASET = ROOT / "dataset" / "demonstration.parquet"
MAX_TOKENS, QUERIES = 48, 256


def on_devices(devices: Sequence[str], folder: Path) -> dict[str, Any]:
    """One run on each. Raises SetupError, RunError."""
    found = {}
    for device in devices:
        place = folder / device.replace(":", "-")
        flags = ("--engine", "embedded", "--dp", "1")
        with serve(flags, (f"--device={device}",), place) as starting:
            load = Load("offline", DATASET, MAX_TOKENS, QUERIES)
            summary = run_ours(load, starting.ready.urls, place)
            found[device] = {
                "ready_s": starting.ready.ready_s,
                "queries": summary["ok"],
                "seconds": summary["duration_s"],
                "tokens_per_s": summary["tokens_per_s"],
                "verdict": summary["verdict"],
            }
    return {"max_tokens": MAX_TOKENS, "devices": found}


def table(result: dict[str, Any]) -> str:
    """Markdown: a line a device."""
    rows = ["| device | ready after s | queries | tokens/s |", "|---|---|---|---|"]
    for device, found in result["devices"].items():
        rows.append(
            f"| {device} | {found['ready_s']:.1f} | {found['queries']:,} | "
            f"{found['tokens_per_s']:,.0f} |"
        )
    return "\n".join(rows)
