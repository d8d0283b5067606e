"""`python -m cluster collect FOLDER`: what a job has measured, as a table, a file, an archive.

Everything already lies in the job's folder, which all nodes share. Nothing is computed anew: each
figure is the run's own.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.records import MEASURED, Measured, load, read_json, write_json
from core.errors import ConfigError, HarnessError, RunError

RESULTS = "results.json"


def main(argv: Sequence[str]) -> int:
    """0 everything that was measured has passed, 1 something has not, 2 or 3 as everywhere."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster collect",
        description="Show what a job has measured, and write results.json into its folder.",
        epilog="Exit codes: 0 all of it has passed, 1 some has not.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="of the job: results/NAME")
    what = "also pack the whole folder into FILE.tar.gz"
    parser.add_argument("--archive", type=Path, metavar="FILE.tar.gz", help=what)
    args = parser.parse_args(argv)
    try:
        if not args.folder.is_dir():
            raise ConfigError(f"{args.folder}: is no folder of a job")
        sys.stdout.write(collect(args.folder))
        if args.archive is not None:
            pack(args.folder, args.archive)
            sys.stdout.write(f"packed into {args.archive}\n")
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    found = measured_in(args.folder)
    return 0 if found and all(one.passed for one in found) else 1


def measured_in(folder: Path) -> list[Measured]:
    """In the order in which they ended."""
    files = (folder / MEASURED).glob("*.json")
    found = [one for file in files if (one := load(folder, file.stem)) is not None]
    return sorted(found, key=lambda one: (one.ended, one.name))


def collect(folder: Path) -> str:
    """The table; results.json is written beside. A disk that is full costs the file alone."""
    found = measured_in(folder)
    rows = [{**asdict(one), "passed": one.passed, **_figures(folder, one)} for one in found]
    try:
        write_json(folder / RESULTS, rows)
    except OSError as error:
        sys.stderr.write(f"WARNING: {folder / RESULTS} cannot be written: {error}\n")
    if not found:
        return "nothing was measured\n"
    return "\n".join([*_table(rows), f"all in {folder}", ""])


def _figures(folder: Path, one: Measured) -> dict[str, Any]:
    """What the run's summary says; empty where it has none."""
    summary = read_json(folder / one.folder / "summary.json")
    if not one.folder or not isinstance(summary, dict):
        return {}
    metric, check = summary.get("metric"), summary.get("check")
    names = ("tokens_per_s", "qps", "duration_s", "issued", "ok", "failures", "reasons")
    return {
        **{name: summary.get(name) for name in names},
        "metric": metric if isinstance(metric, dict) else None,
        "check": check if isinstance(check, dict) else None,
        "balance": summary.get("balance"),
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = ("measurement", "replicas", "tokens/s", "about the mean", "stragglers", "verdict")
    lines = [heads, *(_row(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, len(heads) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The spread: how far the fullest and the emptiest replica's tokens are from the mean."""
    rate, balance = row.get("tokens_per_s"), row.get("balance") or {}
    above, below = (balance.get(f"tokens_{side}_mean") for side in ("above", "below"))
    return (
        row["name"],
        f"{len(row['replicas'])} of {row['wanted']}",
        "-" if rate is None else f"{rate:,.1f}",
        "-" if above is None or below is None else f"+{100 * above:.1f} / -{100 * below:.1f} %",
        str(len(balance.get("stragglers", ()))) if balance else "-",
        row["verdict"],
    )


def pack(folder: Path, archive: Path) -> None:
    """All of the folder as one file. Raises RunError; then no half of it is left."""
    part = archive.with_name(f".{archive.name}.part")
    inside = archive.resolve().is_relative_to(folder.resolve())
    if inside:
        raise ConfigError(f"--archive {archive}: lies in the folder itself; choose another place")
    try:
        with tarfile.open(part, "w:gz") as tar:
            tar.add(folder, arcname=folder.resolve().name)
        part.replace(archive)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise RunError(f"--archive {archive}: cannot be written: {error}") from None
