"""The trials: what their steady part shows, and the real command with --calibrate."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from calibrate.ceiling import Mix
from calibrate.loads import Load, loads, needed
from calibrate.shape import Shape, shape_of_config
from calibrate.trial import Tick, reading
from core.config import RunConfig
from core.errors import RunError
from core.progress import Progress
from core.record import RECORD
from options import parse_options
from sut.settings import LoadSettings, load_settings
from tests.harness import (
    OFFLINE_CONF,
    command_line,
    emulator,
    run_mlperf,
    server_conf,
    write_conf,
    write_dataset,
)

EVENTS, QUERIES = Load("events", 100, 60, 5.0), Load("queries", 100, 2, 5.0)


def ticks(*looks: tuple[float, int, int, float]) -> list[Tick]:
    """Of (seconds, issued, done, CPU seconds of LoadGen and of each of two workers)."""
    return [
        Tick(at_s, Progress(at_s, 100, issued, done, 0, 0), (cpu, cpu, 2 * cpu))
        for at_s, issued, done, cpu in looks
    ]


def records(n: int, n_events: int, seconds: float) -> np.ndarray:
    found = np.zeros(n, RECORD)
    found["first_token_ns"], found["n_events"] = 1000, n_events
    found["done_ns"] = 1000 + int(seconds * 1e9)
    return found


def test_events_are_read_while_nothing_begins_or_ends() -> None:
    looks = ticks(
        (0.0, 0, 0, 0.0), (0.5, 80, 0, 9.0), (1.0, 100, 0, 10.0), (3.0, 100, 0, 11.0),
        (3.5, 100, 7, 15.0),
    )  # fmt: skip
    found = reading(EVENTS, True, looks, records(100, 41, 4.0))
    assert found.busy == (0.5, 0.5, 1.0)
    assert found.load.queries == 0 and found.load.events == pytest.approx(100 * 40 / 4.0)


def test_queries_are_read_while_they_come() -> None:
    looks = ticks(
        (0.0, 0, 0, 0.0), (1.0, 20, 10, 5.0), (2.0, 60, 50, 5.5), (2.5, 80, 70, 5.75),
        (3.0, 100, 100, 9.0),
    )  # fmt: skip
    found = reading(QUERIES, True, looks, records(100, 2, 0.01))
    assert found.load == Mix(40.0, 80.0)
    assert found.busy == (0.5, 0.5, 1.0)


def test_offline_queries_are_read_while_they_end() -> None:
    looks = ticks((1.0, 100, 5, 1.0), (2.0, 100, 20, 2.0), (4.0, 100, 80, 3.0), (5.0, 100, 100, 9))
    found = reading(QUERIES, False, looks, records(100, 1, 0.0))
    assert found.load == Mix(30.0)
    assert found.busy == (0.5, 0.5, 1.0)


@pytest.mark.parametrize("looks", [[(0.0, 0, 0, 0.0)], [(1.0, 50, 0, 1.0), (2.0, 100, 100, 2.0)]])
def test_a_trial_without_a_steady_part_is_refused(
    looks: Sequence[tuple[float, int, int, float]],
) -> None:
    for load in (EVENTS, QUERIES):
        with pytest.raises(RunError, match="repeat it on an idle machine"):
            reading(load, True, ticks(*looks), records(1, 2, 1.0))


def configured(mode: str, *flags: str) -> tuple[RunConfig, LoadSettings]:
    config, _ = parse_options(["--mode", mode, "--input-file", "x.parquet", *flags])
    return config, load_settings(config, 6396)


def test_what_runs_need() -> None:
    assert needed(*configured("server"), Shape()) == Mix(5.0, 5.0 * 1278)
    interval = needed(*configured("server"), Shape(stream_interval=20))
    assert interval.events == pytest.approx(5.0 * (1 + 1277 / 20))
    assert needed(*configured("offline"), Shape()) == Mix(10.0)


@pytest.mark.parametrize("mode", ["server", "interactive"])
@pytest.mark.parametrize("interval", [1, 20, 100])
@pytest.mark.parametrize("n_workers", [1, 4, 64])
def test_streams_last_longer_than_the_window(mode: str, interval: int, n_workers: int) -> None:
    _, load = loads(*configured(mode), Shape(stream_interval=interval), n_workers)
    seconds = (load.answer_tokens - 1) * load.itl_ms / 1e3
    assert 3.0 + load.queries / 2000 < seconds < 30.0
    assert 50 <= load.queries <= 4000
    events_s = 1e3 * load.queries / (load.itl_ms * interval)
    assert events_s == pytest.approx(25_000 * min(n_workers, 4), rel=0.01)


def test_a_dry_run_emulates_what_it_is_told() -> None:
    config, _ = configured("server", "--backend", "sglang", "--server-url", "http://a:1,http://b:1")
    assert shape_of_config(config) == Shape("sglang", 2, 1, incremental=True)
    assert shape_of_config(configured("offline")[0]) == Shape("vllm", 1, 1, incremental=True)


def test_a_dry_run_calibrates_and_stops(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d.parquet")
    conf = write_conf(tmp_path / "u.conf", *server_conf(61, 600))
    command = command_line(
        "server", tmp_path / "output", "--calibrate", "--dry-run", "--input-file", str(data),
        "--user-conf", str(conf), "--max-tokens", "101",
    )  # fmt: skip
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)["calibration"]
    assert found["need"] == {"queries": 61, "events": pytest.approx(61 * 101)}
    assert [cost["process"] for cost in found["costs"]][:2] == ["LoadGen", "worker 0"]
    assert all(0 < cost["query_s"] < 0.1 for cost in found["costs"])
    assert 0 < found["costs"][1]["event_s"] < 0.01
    assert found["ceiling"]["queries"] > 0
    assert "; your run needs 61 QPS / 6,160 events/s" in run.stderr
    assert not (tmp_path / "output").exists()


def test_a_run_is_calibrated_first(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d.parquet", n=20)
    conf = write_conf(tmp_path / "u.conf", *OFFLINE_CONF, "*.Offline.target_qps = 100")
    with emulator("--dialect", "sglang", "--osl", "24") as engine:
        run = run_mlperf(
            "offline", tmp_path, "--calibrate", "--input-file", str(data), "--user-conf", str(conf),
            "--server-url", engine.url,
        )  # fmt: skip
        truth = engine.truth()
    assert run.code == 0, run.stderr
    found = json.loads((run.folder / "calibration.json").read_text())
    assert found["need"] == {"queries": 100, "events": 0}
    assert len(truth) == run.summary["issued"]  # the trials' queries went elsewhere
    assert "this client can drive" in run.stderr
