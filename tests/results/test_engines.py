"""Samples of the engines: stored with what is unknown, and summed up over the run alone."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from results.engines import (
    NO_SAMPLES,
    SAMPLES,
    EngineLoad,
    Samples,
    engine_loads,
    growth,
    read_samples,
    write_samples,
)
from telemetry.sample import ReplicaSample

S = 1_000_000_000
URLS = ("http://a:1", "http://b:1")
nan = float("nan")


def table(*samples: ReplicaSample) -> Samples:
    return np.frombuffer(b"".join(sample.pack() for sample in samples), SAMPLES)


def test_the_dtype_is_the_structs() -> None:
    (row,) = table(ReplicaSample(71, 5 * S, 1, 2, 0.25, 3, 4, 5, 6))
    assert [row[field.name] for field in fields(ReplicaSample)] == [
        71,
        5 * S,
        1,
        2,
        0.25,
        3,
        4,
        5,
        6,
    ]


@pytest.mark.parametrize(
    ("values", "grown"),
    [
        ([], None),
        ([nan, nan], None),
        ([7], 0),
        ([7, 7], 0),
        ([7, 9, 12], 5),
        ([nan, nan, 5, 6], 6),  # not shown before its first event
        ([nan, 5], 5),
        ([7, nan, 9], 2),
        ([7, nan], 0),
        ([100, 110, 3, 5], 15),  # started anew
        ([100, nan, 3], 3),
    ],
)
def test_counters_grow(values: list[float], grown: int | None) -> None:
    assert growth(np.array(values, np.float64)) == grown


def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "engines.bin"
    path.write_bytes(ReplicaSample(1, S).pack() + ReplicaSample(0, 2 * S).pack()[:-1])
    assert read_samples(path)["replica"].tolist() == [1]


def test_the_table_is_in_order_and_unknown_is_null(tmp_path: Path) -> None:
    path = tmp_path / "engines.parquet"
    late = ReplicaSample(0, 2 * S, running=4, kv_usage=0.5, generation_tokens=1 << 40)
    write_samples(table(late, ReplicaSample(1, S)), path)
    rows = pq.read_table(path).to_pylist()
    assert rows[0] == dict.fromkeys(rows[0]) | {"replica": 1, "t_ns": S}
    assert (rows[1]["running"], rows[1]["kv_usage"]) == (4, 0.5)
    assert rows[1]["generation_tokens"] == 1 << 40 and rows[1]["preemptions"] is None
    assert not path.with_suffix(".tmp").exists()


def test_no_samples_make_a_table_without_rows(tmp_path: Path) -> None:
    write_samples(NO_SAMPLES, tmp_path / "engines.parquet")
    found = pq.read_table(tmp_path / "engines.parquet")
    assert found.num_rows == 0 and found.column_names[:3] == ["replica", "t_ns", "running"]


def test_gauges_are_of_the_run_and_counters_of_the_looks_around_it() -> None:
    samples = table(
        ReplicaSample(0, 1 * S, 900, 900, 0.99, 1000, 400, 3, 50),  # warming up
        ReplicaSample(0, 2 * S, 10, 0, 0.10, 1000, 400, 3, 60),
        ReplicaSample(0, 4 * S, 30, 6, 0.40, 1500, 410, 3, 80),
        ReplicaSample(0, 5 * S, 0, 0, 0.00, 2000, 420, 5, 100),
        ReplicaSample(1, 2 * S, 40, 2, 0.60, 0, None, None, 0),
        ReplicaSample(1, 5 * S, 0, 0, 0.00, 1000, None, 1, 50),
    )
    found = engine_loads(samples, URLS, 2 * S, 4 * S)
    one, two = (replica.load for replica in found.replicas)
    assert [replica.url for replica in found.replicas] == list(URLS) and found.exposed == 2
    assert one == EngineLoad(2, 20.0, 30, 3.0, 6, 0.4, 1000, 20, 0.02, 2, 50)
    assert two == EngineLoad(1, 40.0, 40, 2.0, 2, 0.6, 1000, None, 0.0, 1, 50)
    assert found.all == EngineLoad(3, 30.0, 40, 2.5, 6, 0.6, 2000, 20, 0.01, 3, 100)


def test_order_of_arrival_does_not_matter() -> None:
    one, two = (
        ReplicaSample(0, S, generation_tokens=1),
        ReplicaSample(0, 2 * S, generation_tokens=9),
    )
    for samples in (table(one, two), table(two, one)):
        assert engine_loads(samples, URLS, S, S).all.generation_tokens == 8


def test_engines_that_show_nothing() -> None:
    nothing = EngineLoad(0, *[None] * 10)  # type: ignore[arg-type]
    for samples in (NO_SAMPLES, table(ReplicaSample(0, S), ReplicaSample(1, S))):
        found = engine_loads(samples, URLS, 3 * S, 4 * S)
        assert found.exposed == 0 and found.all == nothing and len(found.replicas) == 2


def test_a_run_between_two_samples_has_counters_only() -> None:
    samples = table(
        ReplicaSample(0, S, 0, 0, 0.0, 0, 0, 0, 0), ReplicaSample(0, 2 * S, 0, 0, 0.0, 8, 4, 0, 9)
    )
    load = engine_loads(samples, URLS[:1], S + 1, 2 * S - 1).all
    assert (load.samples, load.running_mean, load.kv_usage_max) == (0, None, None)
    assert (load.prefix_hit_rate, load.generation_tokens) == (0.5, 9)
