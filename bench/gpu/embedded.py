"""The harness's own tiny model, on the CPU and on a GPU: the same Offline run over both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.markdown import markdown
from bench.gpu.ours import ROOT, Load, run_ours
from bench.gpu.served import serve
from core.errors import RunError, SetupError

DATASET = ROOT / "dataset" / "demonstration.parquet"
MAX_TOKENS, QUERIES = 48, 256
HEAD = ("device", "ready after s", "queries", "tokens/s")


def on_devices(devices: Sequence[str], folder: Path) -> dict[str, Any]:
    """One run on each; an `error` beside them where a device gave none."""
    found, errors = {}, []
    for device in devices:
        try:
            found[device] = _on(device, folder / device.replace(":", "-"))
        except (SetupError, RunError) as error:
            errors.append(f"{device}: {error}")
    return {"error": "; ".join(errors), "max_tokens": MAX_TOKENS, "devices": found}


def _on(device: str, folder: Path) -> dict[str, Any]:
    """Raises SetupError, RunError."""
    flags = ("--engine", "embedded", "--dp", "1")
    with serve(flags, (f"--device={device}",), folder) as starting:
        load = Load("offline", DATASET, MAX_TOKENS, QUERIES)
        summary = run_ours(load, starting.ready.urls, folder)
        return {
            "ready_s": starting.ready.ready_s,
            "queries": summary["ok"],
            "seconds": summary["duration_s"],
            "tokens_per_s": summary["tokens_per_s"],
            "verdict": summary["verdict"],
        }


def table(result: dict[str, Any]) -> str:
    """Markdown: a line a device."""
    rows = (
        (
            device,
            f"{found['ready_s']:.1f}",
            f"{found['queries']:,}",
            f"{found['tokens_per_s']:,.0f}",
        )
        for device, found in result["devices"].items()
    )
    return markdown(HEAD, rows)
