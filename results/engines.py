"""What the engines said of themselves during a run: stored as a table, and summed up.

Queue lengths and cache use are of the time between the first query's due time and the last answer's
end. Counters have grown since the engine's start, so what counts is by how much they grew from the
look before the run to the one after it; one that is not shown before its first event began at 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from telemetry.sample import FIELDS, SAMPLE

Samples = npt.NDArray[np.void]  # of dtype SAMPLES
SAMPLES = np.dtype(
    [("t_ns", "<i8"), ("replica", "<i4"), ("", "V4"), *((name, "<f8") for name in FIELDS)]
)
assert SAMPLES.itemsize == SAMPLE.size
NO_SAMPLES: Samples = np.zeros(0, SAMPLES)

N = TypeVar("N", int, float)


def read_samples(path: Path) -> Samples:
    """The whole samples in a raw file; a last one that was cut short is left out."""
    return np.fromfile(path, SAMPLES, count=path.stat().st_size // SAMPLES.itemsize)


def write_samples(samples: Samples, path: Path) -> None:
    """As parquet, in order of time; what an engine did not show is null."""
    samples = samples[np.argsort(samples["t_ns"], kind="stable")]
    columns = {
        "replica": pa.array(samples["replica"].astype(np.int16)),
        "t_ns": pa.array(np.ascontiguousarray(samples["t_ns"])),
    }
    for name in FIELDS:
        values, unknown = samples[name], np.isnan(samples[name])
        if name != "kv_usage":
            values = np.where(unknown, 0, values).astype(np.int64)
        columns[name] = pa.array(np.ascontiguousarray(values), mask=unknown)
    temporary = path.with_suffix(".tmp")
    pq.write_table(pa.table(columns), temporary, compression="zstd")
    temporary.replace(path)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One replica, or all of them. None: not shown, or not looked at while queries were open."""

    samples: int  # during the run
    running_mean: float | None  # requests of a replica
    running_max: int | None
    waiting_mean: float | None
    waiting_max: int | None
    kv_usage_max: float | None  # 0 to 1
    prefix_queries: int | None  # prompt tokens looked for in the prefix cache
    prefix_hits: int | None  # and found
    prefix_hit_rate: float | None
    preemptions: int | None
    generation_tokens: int | None


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """One replica by its number, as in the records."""

    number: int
    url: str
    load: EngineLoad


@dataclass(frozen=True, slots=True)
class EngineLoads:
    """A run's engines. In `all` a mean is that of the replicas' means, a maximum that of any."""

    exposed: int  # replicas that showed anything
    all: EngineLoad
    replicas: tuple[ReplicaLoad, ...]


def engine_loads(samples: Samples, urls: Sequence[str], begin_ns: int, end_ns: int) -> EngineLoads:
    """Sum up what `urls` showed; the run went from `begin_ns` to `end_ns`."""
    samples = samples[np.argsort(samples["t_ns"], kind="stable")]
    each = [samples[samples["replica"] == number] for number in range(len(urls))]
    loads = [_load(mine, begin_ns, end_ns) for mine in each]
    exposed = sum(any(_shown(mine, name) for name in FIELDS) for mine in each)
    replicas = (ReplicaLoad(n, url, loads[n]) for n, url in enumerate(urls))
    return EngineLoads(exposed, _together(loads), tuple(replicas))


def _shown(samples: Samples, name: str) -> bool:
    return bool(np.any(~np.isnan(samples[name])))


def _load(samples: Samples, begin_ns: int, end_ns: int) -> EngineLoad:
    during = samples[(samples["t_ns"] >= begin_ns) & (samples["t_ns"] <= end_ns)]
    queries, hits = growth(samples["prefix_queries"]), growth(samples["prefix_hits"])
    running, waiting = _known(during["running"]), _known(during["waiting"])
    usage = _known(during["kv_usage"])
    return EngineLoad(
        samples=len(during),
        running_mean=float(running.mean()) if len(running) else None,
        running_max=int(running.max()) if len(running) else None,
        waiting_mean=float(waiting.mean()) if len(waiting) else None,
        waiting_max=int(waiting.max()) if len(waiting) else None,
        kv_usage_max=float(usage.max()) if len(usage) else None,
        prefix_queries=queries,
        prefix_hits=hits,
        prefix_hit_rate=_rate(hits, queries),
        preemptions=growth(samples["preemptions"]),
        generation_tokens=growth(samples["generation_tokens"]),
    )


def _together(loads: Sequence[EngineLoad]) -> EngineLoad:
    queries = _sum(load.prefix_queries for load in loads)
    hits = _sum(load.prefix_hits for load in loads)
    return EngineLoad(
        samples=sum(load.samples for load in loads),
        running_mean=_mean(load.running_mean for load in loads),
        running_max=_max(load.running_max for load in loads),
        waiting_mean=_mean(load.waiting_mean for load in loads),
        waiting_max=_max(load.waiting_max for load in loads),
        kv_usage_max=_max(load.kv_usage_max for load in loads),
        prefix_queries=queries,
        prefix_hits=hits,
        prefix_hit_rate=_rate(hits, queries),
        preemptions=_sum(load.preemptions for load in loads),
        generation_tokens=_sum(load.generation_tokens for load in loads),
    )


def growth(counter: npt.NDArray[np.float64]) -> int | None:
    """By how much a counter grew from its first value to its last; None if it was never shown.

    An engine that was started anew counts from 0 again: what it counted before is kept.
    """
    if not len(_known(counter)):
        return None
    # Missing at first is 0. Missing later is a look that failed to show it: nothing new.
    last, grown = 0.0 if np.isnan(counter[0]) else float(counter[0]), 0.0
    for value in _known(counter[1:]):
        grown += value - last if value >= last else value
        last = float(value)
    return round(grown)


def _rate(hits: int | None, queries: int | None) -> float | None:
    return (hits or 0) / queries if queries else None


def _known(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known: npt.NDArray[np.float64] = values[~np.isnan(values)]
    return known


def _given(values: Iterable[N | None]) -> list[N]:
    return [value for value in values if value is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    given = _given(values)
    return sum(given) / len(given) if given else None


def _max(values: Iterable[N | None]) -> N | None:
    return max(_given(values), default=None)


def _sum(values: Iterable[int | None]) -> int | None:
    given = _given(values)
    return sum(given) if given else None
