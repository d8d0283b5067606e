"""Running one workload: the real command against the emulator, its CPU time taken from the kernel.

The harness's processes (LoadGen's and the client workers') are one process tree that ends with the
run, so the resource usage of the ended tree is exactly theirs; the emulator is not part of it. What
the tree had used when the emulator got its first request is taken off: starting takes seconds of
CPU, and its spread would be larger than what is to be measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bench.processes import cpu_at_first_request, gauge
from bench.workloads import Workload
from results.records import Records, read_parquet

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of the harness in which nothing failed."""

    cpu_s: float  # from the first request on
    queries: int
    events: int
    records: Records


@dataclass(frozen=True, slots=True)
class Slope:
    """What one more query, and one more event, costs."""

    query_us: float
    event_us: float


def slope(small: Run, big: Run) -> Slope:
    cpu_us = (big.cpu_s - small.cpu_s) * 1e6
    events = big.events - small.events
    return Slope(cpu_us / (big.queries - small.queries), cpu_us / events)


def prompts(workload: Workload) -> npt.NDArray[np.int32]:
    """The workload's prompts, a row each, the same every time."""
    random = np.random.default_rng(3)
    return random.integers(1, 200_000, (workload.rows, workload.prompt_tokens), np.int32)


def run_twice(workload: Workload, urls: Sequence[str], folder: Path) -> tuple[Run, Run]:
    small, big = (run_once(workload, size, urls, folder) for size in workload.sizes)
    return small, big


def run_once(
    workload: Workload,
    size: int,
    urls: Sequence[str],
    folder: Path,
    meanwhile: Callable[[int], None] = lambda pid: None,
) -> Run:
    """Run the harness over `size` queries. Raises RuntimeError unless all of them succeeded.

    meanwhile: called with the id of the harness's first process once it has begun to send.
    """
    command = _command(workload, size, urls, folder)
    served = gauge(urls[0], "prompt_tokens_total")
    with (folder / "stderr").open("w+b") as errors, (folder / "stdout").open("w+b") as output:
        process = subprocess.Popen(command, stdout=output, stderr=errors, stdin=subprocess.DEVNULL)
        try:
            started_s = cpu_at_first_request(process.pid, urls[0], served)
            meanwhile(process.pid)
        finally:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        lines, complaint = output.read().splitlines(), errors.read().decode()
    if not lines:
        raise RuntimeError(f"the harness ended with {process.returncode}:\n{complaint}")
    summary: dict[str, Any] = json.loads(lines[-1])
    if summary["ok"] != size:
        raise RuntimeError(f"{summary['ok']} of {size} queries succeeded: {summary['reasons']}")
    [found] = (folder / "output" / workload.mode).glob("*/queries.parquet")
    records = read_parquet(found)
    cpu_s = usage.ru_utime + usage.ru_stime - started_s
    return Run(cpu_s, size, int(records["n_events"].sum()), records)


def _command(workload: Workload, size: int, urls: Sequence[str], folder: Path) -> list[str]:
    data, conf, output = folder / "data.parquet", folder / "user.conf", folder / "output"
    if not data.exists():
        pq.write_table(pa.table({"input_tokens": list(prompts(workload))}), data)
    conf.write_text(
        f"*.*.min_duration = 0\n*.*.min_query_count = {size}\n"
        f"*.Offline.target_qps = 0.001\n*.Server.target_qps = {workload.qps}\n"
    )
    shutil.rmtree(output, ignore_errors=True)
    options = {
        "--mode": workload.mode,
        "--input-file": data,
        "--user-conf": conf,
        "--output-dir": output,
        "--server-url": ",".join(urls),
        "--max-tokens": workload.max_tokens,
        "--warmup": 0,  # or the engine's log has more than the measured queries
    }
    if workload.in_flight is not None:
        options["--max-concurrency"] = workload.in_flight
    flags = [str(part) for option in options.items() for part in option]
    return [sys.executable, str(ROOT / "run_mlperf.py"), *flags, *workload.flags]
