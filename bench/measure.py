"""Running one workload: the real command against the emulator, its CPU time taken from the kernel.

The harness's processes (LoadGen's and the client workers') are one process tree that ends with the
run, so the resource usage of the ended tree is exactly theirs; the emulator is not part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.workloads import Workload

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of one run of the harness, and the work that it did."""

    cpu_s: float
    queries: int
    events: int


@contextmanager
def emulator(flags: tuple[str, ...]) -> Iterator[str]:
    """An emulated vLLM server for the duration of the block; yields its URL."""
    command = [sys.executable, "-m", "engine", "clock", "--dialect", "vllm", "--until-stdin-closes"]
    with subprocess.Popen(
        [*command, *flags], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield str(json.loads(process.stdout.readline())["ready"])
        process.stdin.close()


def slope_us(workload: Workload, folder: Path) -> float:
    """CPU microseconds per query or event of the whole chain, from two sizes."""
    with emulator(workload.engine) as url:
        small, big = (run_once(workload, size, url, folder) for size in workload.sizes)
    work = (big.queries - small.queries, big.events - small.events)[workload.per == "event"]
    return (big.cpu_s - small.cpu_s) * 1e6 / work


def run_once(workload: Workload, size: int, url: str, folder: Path) -> Cost:
    """Run the harness over `size` queries. Raises RuntimeError unless all of them succeeded."""
    command = _command(workload, size, url, folder)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    summary: dict[str, Any] = json.loads(output.splitlines()[-1])
    if summary["ok"] != size:
        raise RuntimeError(f"{summary['ok']} of {size} queries succeeded: {summary['reasons']}")
    events = round(summary["output_tokens"] / (summary["tokens_per_event"] or 1))
    return Cost(usage.ru_utime + usage.ru_stime, summary["ok"], events)


def _command(workload: Workload, size: int, url: str, folder: Path) -> list[str]:
    data, conf = folder / "data.parquet", folder / "user.conf"
    random = np.random.default_rng(3)
    rows = list(random.integers(1, 200_000, (workload.rows, workload.prompt_tokens), np.int32))
    pq.write_table(pa.table({"input_tokens": rows}), data)
    # Everything is offered at once; --max-concurrency keeps the number of streams.
    conf.write_text(
        f"*.*.min_duration = 0\n*.*.min_query_count = {size}\n"
        "*.Offline.target_qps = 0.001\n*.Server.target_qps = 1000000\n"
    )
    options = {
        "--mode": workload.mode,
        "--input-file": data,
        "--user-conf": conf,
        "--output-dir": folder / "output",
        "--server-url": url,
        "--max-tokens": workload.max_tokens,
        "--max-concurrency": workload.in_flight,
        "--num-workers": 1,
    }
    flags = [str(part) for option in options.items() for part in option]
    return [sys.executable, str(ROOT / "run_mlperf.py"), *flags]
