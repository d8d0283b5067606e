"""F: as many streams open at once as were asked for, and what each costs in memory.

Memory is the sum of PSS (shared pages counted once) over the harness's processes, taken while all
streams are open, less the same in a run with few of them. One process has fewer descriptors than
there are streams: both the client's workers and the emulator are several then.
"""

from __future__ import annotations

import math
import re
import resource
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.measure import run_once
from bench.workloads import F_ENGINE, open_at_once
from engine.emulator import run_emulator

SPARE_DESCRIPTORS = 500
SAMPLE_S = 0.5
RUNNING = re.compile(rb"^vllm:num_requests_running\{.*\} ([\d.]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Peak:
    streams: int = 0
    pss_bytes: int = 0


def processes_for(streams: int) -> int:
    """How many processes it takes to hold so many sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = most - SPARE_DESCRIPTORS if most > 0 else streams
    return max(1, math.ceil(streams / each))


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
                running = sum(map(running_at, urls))
                if running > peaks[-1].streams or running == streams:
                    pss = sum(map(pss_bytes, tree))
                    peaks.append(max(Peak(running, pss), peaks[-1], key=lambda p: p.pss_bytes))
                time.sleep(SAMPLE_S)

        run_once(workload, streams, urls, folder, watch)
    return peaks[-1]


def running_at(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        found = RUNNING.search(answer.read())
    return int(float(found[1])) if found else 0


def process_tree(pid: int) -> Iterator[int]:
    """A process and its descendants; nothing once it has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            return
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return
    yield pid
    for child in children:
        yield from process_tree(child)


def pss_bytes(pid: int) -> int:
    """Proportional set size; 0 for a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line[:4] == "Pss:")
