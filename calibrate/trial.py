"""The run's own path, LoadGen included, under steady loads against emulated engines.

Same dataset, dialect, scenario, workers and draining as the run's; other rates and answers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from backends.engines import Engines, probe
from calibrate.ceiling import Calibration, Mix, Reading, costs
from calibrate.loads import QPS, Load, loads, needed
from calibrate.shape import Shape
from client.busy import cpu_s_of
from client.plan import ClientPlan
from client.pool import ClientPool, start_pool
from client.prompts import encode_prompts
from client.spec import Conduct
from client.workers import (
    choose_workers,
    cpu_sets,
    expected_rate,
    own_cpus,
    spare_cores,
)
from core.config import RunConfig, Timeouts
from core.errors import RunError
from core.progress import Progress
from core.record import RECORD
from dataset import Dataset
from engine.emulator import run_emulator
from sut.run import run_test
from sut.settings import LoadSettings, load_settings

MAX_ROWS = 250  # of the dataset
CONTEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class Tick:
    """A look at the test and at the CPU time of its processes."""

    at_s: float
    progress: Progress
    cpu_s: tuple[float, ...]


def calibrate(
    config: RunConfig,
    settings: LoadSettings,
    dataset: Dataset,
    shape: Shape,
    say: Callable[[str], None],
) -> Calibration:
    """Find the ceiling for this run; takes about fifteen seconds. Raises HarnessError."""
    need = needed(config, settings, shape)
    rate = expected_rate(config, need.queries, shape.stream_interval)
    n_workers = choose_workers(config, shape.replicas, spare_cores(), rate)
    say(f"calibrating: what this client can drive, against emulated engines ({shape.replicas})")
    trials = loads(config, settings, shape, n_workers)
    readings = [read(load, config, dataset, shape, n_workers) for load in trials]
    return Calibration(need, costs(readings, len(own_cpus())))


def read(load: Load, config: RunConfig, dataset: Dataset, shape: Shape, n_workers: int) -> Reading:
    """Put one load on the client and see what it costs."""
    trial = replace(
        config,
        accuracy=False,
        compliance=None,
        sampling=replace(config.sampling, max_tokens=load.answer_tokens),
        timeouts=Timeouts(),
        max_concurrency=load.max_concurrency,
    )
    ticks: list[Tick] = []
    records = bytearray()
    with emulated(load, shape) as engines, started(trial, engines, dataset, n_workers) as pool:
        pids = [worker.process.pid for worker in pool.workers]

        def note(progress: Progress) -> None:
            cpu_s = (time.process_time(), *map(cpu_s_of, pids))
            ticks.append(Tick(time.monotonic(), progress, cpu_s))

        n_rows = min(len(dataset), MAX_ROWS, load.queries)
        with tempfile.TemporaryDirectory() as logs:
            test = run_test(
                trial,
                trial_settings(trial, load, n_rows),
                n_rows,
                pool,
                Path(logs),
                records.extend,
                note,
            )
    if test.interrupted:
        raise KeyboardInterrupt
    if test.crash or test.reasons or not test.returned:
        raise RunError(
            f"--calibrate: the trial of {load.what} failed: {test.crash or test.reasons}"
        )
    return reading(load, config.scenario.is_timed, ticks, np.frombuffer(records, RECORD))


@contextmanager
def emulated(load: Load, shape: Shape) -> Iterator[Engines]:
    """Engines that answer as the load wants it."""
    numbers = {
        "ttft-ms": load.ttft_ms,
        "itl-ms": load.itl_ms,
        "osl": load.answer_tokens,
        "chunk": shape.stream_interval,
        "context": CONTEXT,
    }
    flags = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    flags += ["--dialect", shape.dialect, *(["--incremental"] if shape.incremental else [])]
    with run_emulator(*flags, replicas=shape.replicas) as emulator:
        yield probe(emulator.urls, shape.dialect)


@contextmanager
def started(
    config: RunConfig, engines: Engines, dataset: Dataset, n_workers: int
) -> Iterator[ClientPool]:
    """The client, as the run will have it."""
    rows = [dataset.prompt(i) for i in range(min(len(dataset), MAX_ROWS))]
    backend, n, most = engines.backend, len(engines.addresses), config.max_concurrency
    limit = None if most is None else ceil(most / n)
    plan = ClientPlan(n_workers, cpu_sets(n_workers), limit, limit, n, ())
    prompts = encode_prompts(rows, backend, config.sampling, stream=config.scenario.is_timed)
    conduct = Conduct.of(config, backend.name, engines.model)
    try:
        with start_pool(conduct, engines.addresses, prompts, plan) as pool:
            yield pool
    finally:
        prompts.close()


def trial_settings(config: RunConfig, load: Load, n_rows: int) -> LoadSettings:
    """The run's settings with the trial's length and rate."""
    settings = load_settings(config, n_rows)
    loadgen = settings.loadgen
    loadgen.min_duration_ms = loadgen.max_duration_ms = loadgen.max_query_count = 0
    loadgen.min_query_count = load.queries
    loadgen.performance_sample_count_override = n_rows
    loadgen.server_target_qps = QPS
    return settings


def reading(load: Load, timed: bool, ticks: Sequence[Tick], records: np.ndarray) -> Reading:
    """What a trial's steady part shows. Raises RunError when it has none."""
    total = max(tick.progress.issued for tick in ticks)
    if load.what == "events":
        steady = [t for t in ticks if t.progress.issued == total and t.progress.done == 0]
    elif timed:
        steady = [t for t in ticks if total / 10 <= t.progress.issued < total]
    else:
        steady = [t for t in ticks if total / 10 <= t.progress.done < total]
    if len(steady) < 2:
        raise RunError(
            f"--calibrate: this machine is too busy, or too slow, for a trial of {load.what}: "
            "repeat it on an idle machine, or leave it out"
        )
    first, last = steady[0], steady[-1]
    wall_s = last.at_s - first.at_s
    busy = tuple((b - a) / wall_s for a, b in zip(first.cpu_s, last.cpu_s, strict=True))
    if load.what == "events":
        return Reading(Mix(0.0, stream_events_s(records)), busy)
    before, after = first.progress, last.progress
    queries = after.issued - before.issued if timed else after.done - before.done
    qps = queries / wall_s
    return Reading(Mix(qps, qps * float(records["n_events"].mean()) if timed else 0.0), busy)


def stream_events_s(records: np.ndarray) -> float:
    """Events a second while all streams are open, by each stream's own pace."""
    seconds = (records["done_ns"] - records["first_token_ns"]) / 1e9
    return float(((records["n_events"] - 1) / seconds).sum())
