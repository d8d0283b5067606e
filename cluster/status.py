"""`python -m cluster status FOLDER`: where a job stands, by Slurm and by its own orchestrator."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.collect import measured_in
from cluster.records import STATE, read_json, submitted
from cluster.slurm import queue
from core.errors import HarnessError

QUEUE = "%i|%T|%M|%l|%N|%r"


def main(argv: Sequence[str]) -> int:
    """0, or 2 where the folder is none of a job."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster status",
        description="Show where a job stands: Slurm's word, the orchestrator's, what has ended.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="of the job: results/NAME")
    folder: Path = parser.parse_args(argv).folder
    ids = submitted(folder)
    if not ids and not (folder / STATE).exists():
        sys.stderr.write(f"error: {folder}: is no folder of a job that was submitted\n")
        return 2
    lines = [*_slurm(ids), *_own(folder), *_measured(folder)]
    sys.stdout.write("\n".join([*lines, ""]))
    return 0


def _slurm(ids: Sequence[str]) -> Iterator[str]:
    """One line for each job that Slurm still knows."""
    for job in ids:
        try:
            told = queue(job, QUEUE, "--states=all")
        except HarnessError as error:
            yield f"job {job}: {error}"
            continue
        if not told:
            yield f"job {job}: has ended, and Slurm no longer knows it"
            continue
        number, state, used, limit, nodes, reason = (told.splitlines()[0].split("|") + [""] * 6)[:6]
        where = f" on {nodes}" if nodes else ""
        why = f" ({reason})" if reason not in ("", "None") else ""
        yield f"job {number}: {state}{why}, {used} of {limit}{where}"


def _own(folder: Path) -> Iterator[str]:
    state = read_json(folder / STATE)
    if not isinstance(state, dict):
        yield "the orchestrator has not begun"
        return
    yield f"{state['phase']} (job {state['job']}, {state['updated']}), {state['replicas']} replicas"
    for what, reason in state["left_out"].items():
        yield f"  left out: {what}: {str(reason).splitlines()[0]}"


def _measured(folder: Path) -> Iterator[str]:
    for one in measured_in(folder):
        count = f"{len(one.replicas)} of {one.wanted} replicas"
        yield f"{one.name}: {one.verdict}, {count}, ended {one.ended}"
