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

from cluster.plan import Plan, read_plan
from cluster.records import MEASURED, PLAN, Measured, is_done, load, read_json, write_json
from core.errors import ConfigError, HarnessError, RunError

RESULTS = "results.json"


def main(argv: Sequence[str]) -> int:
    """0 everything has passed, 1 something has not or is missing, 2 to 4 as everywhere."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster collect",
        description="Show what a job has measured, and write results.json into its folder.",
        epilog="Exit codes: 0 everything has passed, 1 something has not, or is missing.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="of the job: results/NAME")
    what = "also pack the whole folder into FILE.tar.gz"
    parser.add_argument("--archive", type=Path, metavar="FILE.tar.gz", help=what)
    args = parser.parse_args(argv)
    try:
        if not args.folder.is_dir():
            raise ConfigError(f"{args.folder}: is no folder of a job")
        rows = rows_of(args.folder)
        sys.stdout.write(_told(args.folder, rows))
        if args.archive is not None:
            pack(args.folder, args.archive)
            sys.stdout.write(f"packed into {args.archive}\n")
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0 if rows and all(row["passed"] for row in rows) else 1


def measured_in(folder: Path) -> list[Measured]:
    """In the order in which they ended."""
    files = (folder / MEASURED).glob("*.json")
    found = [one for file in files if (one := load(folder, file.stem)) is not None]
    return sorted(found, key=lambda one: (one.ended, one.name))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Each measurement of the last job's chain, also one that is missing; then what else is there."""
    plan, found = _plan(folder), {one.name: one for one in measured_in(folder)}
    chain = plan.measurements if plan else ()
    rows = []
    for wanted in chain:
        one = found.pop(wanted.name, None)
        done = plan is not None and is_done(folder, plan, wanted)
        if one is None:
            rows.append({"name": wanted.name, "verdict": "not measured", "passed": False})
        elif one.passed and not done:
            told = f"{one.verdict}, of other settings"
            rows.append({**_row_of(folder, one), "passed": False, "verdict": told})
        else:
            rows.append(_row_of(folder, one))
    return [*rows, *(_row_of(folder, one) for one in found.values())]


def _plan(folder: Path) -> Plan | None:
    try:
        return read_plan((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ConfigError):
        return None


def _row_of(folder: Path, one: Measured) -> dict[str, Any]:
    return {**asdict(one), "passed": one.passed, **_figures(folder, one)}


def collect(folder: Path) -> str:
    """The table; results.json is written beside. A disk that is full costs the file alone."""
    return _told(folder, rows_of(folder))


def _told(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    try:
        write_json(folder / RESULTS, rows)
    except OSError as error:
        sys.stderr.write(f"WARNING: {folder / RESULTS} cannot be written: {error}\n")
    if not rows:
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
        f"{len(row['replicas'])} of {row['wanted']}" if "replicas" in row else "-",
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
