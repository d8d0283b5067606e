"""The workloads run: each function measures one of them once and returns its figures.

A figure is ours and, where a C client can do the same work, the limit that it found right after.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench import workloads as known
from bench.measure import prompts, run_once, run_twice, slope
from bench.memory import peak_of, processes_for
from bench.native import measure_floor
from bench.timing import compare, lateness_ms
from bench.workloads import Workload
from engine.emulator import Emulator, run_emulator

Found = dict[str, tuple[float, float | None]]  # by a figure's key: ours, the C client's
NATIVE_TIMES = 4  # the C client's runs are so much larger where they are quick


def against(workload: Workload, measure: Callable[[Emulator, Path], Found]) -> Found:
    """Measure against a fresh emulator, in a folder of its own. Raises SetupError."""
    flags, replicas = ("--dialect", "vllm", *workload.engine), workload.replicas
    with (
        TemporaryDirectory() as folder,
        run_emulator(*flags, replicas=replicas, native=True) as emulator,
    ):
        return measure(emulator, Path(folder))


def per_query(key: str, workload: Workload) -> Found:
    def measure(emulator: Emulator, folder: Path) -> Found:
        ours = slope(*run_twice(workload, emulator.urls, folder))
        floor = measure_floor(workload, emulator.urls, folder, NATIVE_TIMES)
        return {key: (ours.query_us, floor.query_us)}

    return against(workload, measure)


def per_event(key: str, workload: Workload) -> Found:
    def measure(emulator: Emulator, folder: Path) -> Found:
        small, big = run_twice(workload, emulator.urls, folder)
        floor = measure_floor(workload, emulator.urls, folder)
        return {key: (slope(small, big).event_us, floor.event_us(big.events / big.queries))}

    return against(workload, measure)


def timing(qps: int) -> Found:
    workload = known.at_rate(qps, (1, known.D_SECONDS))

    def measure(emulator: Emulator, folder: Path) -> Found:
        run = run_once(workload, workload.sizes[1], emulator.urls, folder)
        found = compare(run.records, prompts(workload), emulator.truth())
        return {key: (value, None) for key, value in found.figures(f"D{qps}").items()}

    return against(workload, measure)


def long_prompts(tokens: int) -> Found:
    workload, key = known.with_prompts(tokens), f"E{tokens}"

    def measure(emulator: Emulator, folder: Path) -> Found:
        ours = slope(*run_twice(workload, emulator.urls, folder))
        floor = measure_floor(workload, emulator.urls, folder)
        megabytes = floor.request_bytes / 1e6
        return {
            key: (ours.query_us, floor.query_us),
            f"{key} MB": (ours.query_us / megabytes, floor.query_us / megabytes),
        }

    return against(workload, measure)


def many_streams() -> Found:
    n_processes = processes_for(known.F_STREAMS)
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        few = peak_of(known.F_FEW, n_processes, Path(one))
        many = peak_of(known.F_STREAMS, n_processes, Path(two))
    each = (many.pss_bytes - few.pss_bytes) / max(many.streams - few.streams, 1)
    return {"F open": (many.streams, None), "F memory": (each / 1e3, None)}


def cluster() -> Found:
    workload = known.G

    def measure(emulator: Emulator, folder: Path) -> Found:
        small, big = run_twice(workload, emulator.urls, folder)
        cores = slope(small, big).query_us * workload.qps / 1e6
        late = float(np.percentile(lateness_ms(big.records), 99))
        floor = measure_floor(workload, emulator.urls, folder).query_us * workload.qps / 1e6
        return {"G cores": (cores, floor), "G late p99": (late, None)}

    return against(workload, measure)


SUITE: dict[str, list[Callable[[], Found]]] = {
    "A": [lambda: per_query("A", known.A)],
    "B": [
        lambda: per_event("B", known.B),
        lambda: per_event("B drained", known.B_DRAINED),
    ],
    "C": [lambda: per_query("C", known.C)],
    "D": [lambda: timing(200), lambda: timing(1000)],
    "E": [lambda: long_prompts(8_192), lambda: long_prompts(100_000)],
    "F": [many_streams],
    "G": [cluster],
}
