"""tables.md, measurements.json and plots of a folder of steps: python -m bench.gpu.report FOLDER."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.compiles import FIRST_ONLY
from bench.gpu.options import STEPS
from bench.gpu.plots import draw
from bench.gpu.turns_table import exchange

TITLES = {
    "turns": "Offline: ours over HTTP beside the engine's own offline benchmark",
    "exchanged": "The same with the GPUs exchanged",
    "replicas": "Offline over all GPUs",
    "sweep": "Concurrency against throughput, latency and power",
    "perplexity": "Perplexity by log-probabilities of prompts",
    "clients": "One Server load, two clients, three clocks",
    "server": "Server: the highest rate within the limits",
    "interactive": "Interactive: the highest rate within the limits",
    "embedded": "The tiny model on CPU and GPU",
}


def write_report(folder: Path) -> str:
    """The tables, which are also in tables.md; a step that failed has those of what it measured."""
    found = read_steps(folder)
    sections = {step: _section(found[step]) for step in STEPS if step in found}
    if all("result" in found.get(step, {}) for step in ("turns", "exchanged")):
        both = found["turns"]["result"], found["exchanged"]["result"]
        sections["exchanged"] += f"\n{exchange(*both)}"
    text = "\n".join(sections.values())
    (folder / "tables.md").write_text(text, encoding="utf-8")
    (folder / "measurements.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return text


def draw_plots(folder: Path) -> None:
    """Of the steps that are there; says so where it cannot."""
    try:
        draw(read_steps(folder), folder)
    except ImportError:
        sys.stderr.write("no plots: matplotlib is not installed; ./setup.sh --competition\n")


def read_steps(folder: Path) -> dict[str, dict[str, Any]]:
    """What each step left."""
    names = ("machine", "start", "warmup", *STEPS)
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def _section(found: dict[str, Any]) -> str:
    title = TITLES[found["step"]]
    if "error" in found:
        title += f"\n\nFAILED: {found['error']}"
    if "table" not in found:
        return f"## {title}\n"
    foot = "; ".join(filter(None, (f"{found['seconds']:.0f} s", _compiled(found))))
    return f"## {title}\n\n{found['table'].rstrip()}\n\n({foot})\n"


def _compiled(found: dict[str, Any]) -> str:
    """Nothing where an engine did not watch itself: no line of its log would prove nothing."""
    watched = found.get("watched")
    if not watched or not all(watched):
        return ""
    words = f"{len(found['compiles'])} kernels compiled meanwhile"
    return words if all(found["watches_all"]) else f"{words}, {FIRST_ONLY}"


def main(argv: Sequence[str] | None = None) -> None:
    """Leaves with exit code 2 where there is nothing to report."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="the --output of python -m bench.gpu")
    folder: Path = parser.parse_args(argv).folder
    if not any((folder / f"{step}.json").exists() for step in STEPS):
        parser.error(f"{folder}: no step of bench.gpu has left anything there")
    sys.stdout.write(write_report(folder))
    draw_plots(folder)


if __name__ == "__main__":
    main()
