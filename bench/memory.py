"""F: as many streams open at once as were asked for, and what each costs in memory.

Memory is the sum of PSS (shared pages counted once) over the harness's processes, taken while all
streams are open, less the same in a run with few of them. One process has fewer descriptors than
there are streams: both the client's workers and the emulator are several then.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.measure import run_once
from bench.processes import gauge, process_tree, pss_bytes
from bench.workloads import F_ENGINE, open_at_once
from core.files import most_files
from engine.emulator import run_emulator

SPARE_DESCRIPTORS = 500
SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Peak:
    streams: int = 0
    pss_bytes: int = 0


def processes_for(streams: int) -> int:
    """How many processes it takes to hold so many sockets."""
    most = most_files()
    return 1 if most is None else max(1, math.ceil(streams / (most - SPARE_DESCRIPTORS)))


def peak_of(streams: int, n_processes: int, folder: Path) -> Peak:
    """Run the harness with so many streams at once; raises RuntimeError if a query fails."""
    peaks = [Peak()]
    with ExitStack() as stack:
        engines = [
            stack.enter_context(run_emulator("--dialect", "vllm", *F_ENGINE))
            for _ in range(n_processes)
        ]
        urls = [url for engine in engines for url in engine.urls]
        workload = open_at_once(streams, n_processes, len(urls))

        def watch(pid: int) -> None:
            while tree := list(process_tree(pid)):
                running = sum(gauge(url, "num_requests_running") for url in urls)
                if running > peaks[-1].streams or running == streams:
                    pss = sum(map(pss_bytes, tree))
                    peaks.append(max(Peak(running, pss), peaks[-1], key=lambda p: p.pss_bytes))
                time.sleep(SAMPLE_S)

        run_once(workload, streams, urls, folder, watch)
    return peaks[-1]
