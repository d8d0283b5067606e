"""tables.md, measurements.json and plots of a folder of steps: python -m bench.gpu.report FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.gpu.options import STEPS
from bench.gpu.plots import draw

TITLES = {
    "turns": "Offline: ours over HTTP beside the engine's own offline benchmark",
    "replicas": "Offline over all GPUs",
    "sweep": "Concurrency against throughput, latency and power",
    "perplexity": "Perplexity by log-probabilities of prompts",
    "clients": "One Server load, two clients, three clocks",
    "server": "Server: the highest rate within the limits",
    "interactive": "Interactive: the highest rate within the limits",
    "embedded": "The tiny model on CPU and GPU",
}


def write_report(folder: Path) -> str:
    """The tables, which are also in tables.md."""
    found = read_steps(folder)
    text = "\n".join(_section(found[step]) for step in STEPS if step in found)
    (folder / "tables.md").write_text(text, encoding="utf-8")
    (folder / "measurements.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    try:
        draw(found, folder)
    except ImportError:
        sys.stderr.write("no plots: matplotlib is not installed; ./setup.sh --competition\n")
    return text


def read_steps(folder: Path) -> dict[str, dict[str, Any]]:
    """What each step left."""
    names = ("machine", "start", "warmup", *STEPS)
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def _section(found: dict[str, Any]) -> str:
    title = TITLES[found["step"]]
    if "error" in found:
        return f"## {title}\n\nFAILED: {found['error']}\n"
    compiled = found.get("compiles", [])
    watched = found.get("watched") or []
    proof = f"{len(compiled)} kernels compiled meanwhile" if all(watched) and watched else ""
    foot = "; ".join(filter(None, (f"{found['seconds']:.0f} s", proof)))
    return f"## {title}\n\n{found['table'].rstrip()}\n\n({foot})\n"


if __name__ == "__main__":
    sys.stdout.write(write_report(Path(sys.argv[1])))
