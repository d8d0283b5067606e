"""Whole runs against emulators: what they say is recorded, what they do is shown, marked, undone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dataset import load_dataset
from results.records import read_parquet
from tests.harness import (
    OFFLINE_CONF,
    Run,
    command_line,
    emulator,
    run_mlperf,
    server_conf,
    unmarked,
    write_conf,
    write_dataset,
)

CLOCK = ("--ttft-ms", "20", "--itl-ms", "5", "--osl", "12", "--vocab", "1000")


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[str, ...]:
    data = write_dataset(tmp_path / "d.parquet", n=800, length=40)
    conf = write_conf(tmp_path / "u.conf", *server_conf(qps=200, seconds=5), *OFFLINE_CONF)
    return "--input-file", str(data), "--user-conf", str(conf), "--max-tokens", "64"


def manifest(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "manifest.json").read_text())
    return found


def marks(run: Run) -> list[str]:
    """Without what a busy machine adds to any run."""
    return [reason for reason in run.summary["reasons"] if not reason.startswith("headroom")]


def row(run: Run, label: str) -> str:
    lines = run.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(label))
    more = (line for line in lines[start + 1 :])
    found = [lines[start]]
    while (line := next(more)).startswith(" " * 12):
        found.append(line)
    return " ".join(" ".join(found).split())


def test_vllm_with_a_prefix_cache(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    flags = ("--dialect", "vllm", "--prefix-cache", *CLOCK)
    with emulator(*flags) as one, emulator(*flags) as two:
        file = tmp_path / "servers.txt"
        file.write_text(f"{one.url}\n{two.url} # the second\n")
        run = run_mlperf("server", tmp_path, *inputs, "--servers", str(file), "--warmup", "2")
        truths = [one.truth(), two.truth()]
    assert run.code == 0, run.stdout + run.stderr
    summary, said = run.summary, manifest(run)
    # Two requests to each first, none of them a measured prompt.
    prompts = load_dataset(tmp_path / "d.parquet")
    known = {int(prompts.prompt(i).sum()) for i in range(len(prompts))}
    for truth in truths:
        assert [entry["prompt_sum"] in known for entry in truth[:3]] == [False, False, True]
        assert max(e["done_ns"] for e in truth[:2]) < run.records["due_ns"].min()
    assert sum(map(len, truths)) == 4 + summary["issued"]
    # What they say of themselves.
    assert [engine["prefix_caching"] for engine in said["engines"]] == [True, True]
    assert said["engines"][0]["stream_interval"] is None  # vLLM does not say, nobody guesses
    assert [cache["done"] for cache in said["preparation"]["caches"]] == [False, False]
    assert said["preparation"]["differences"] == []
    assert "may hold prompts of an earlier run: it cannot be reset: only in dev" in run.stderr
    assert "warning: prefix caching is on: the run will be marked" in run.stderr
    # What they did, from the run's own counters: warm-up is not in them.
    table = pq.read_table(run.folder / "engines.parquet").to_pydict()
    assert set(table["replica"]) == {0, 1} and table["t_ns"] == sorted(table["t_ns"])
    assert len(table["t_ns"]) >= 2 * 4
    assert not (run.folder / "engines.bin").exists()
    loads = summary["engines"]
    asked = sum(entry["prompt_tokens"] for truth in truths for entry in truth[2:])
    assert loads["all"]["prefix_queries"] == asked
    assert loads["all"]["generation_tokens"] == summary["output_tokens"]
    assert [r["url"] for r in loads["replicas"]] == [one.url, two.url]
    assert loads["all"]["samples"] >= 2 and loads["all"]["running_max"] >= 1
    assert loads["all"]["preemptions"] is None and loads["all"]["kv_usage_max"] is None
    # 1000 queries over 800 prompts: what repeats is cached, and the run is marked for it.
    rate = loads["all"]["prefix_hit_rate"]
    assert 0.02 < rate < 0.8
    assert unmarked(summary["verdict"]) == "UNOFFICIAL"
    assert marks(run)[0].startswith(f"{100 * rate:.1f} % of the prompt tokens came from")
    assert "--no-enable-prefix-caching" in row(run, "verdict")
    assert f"prefix hits {100 * rate:.1f} %" in row(run, "engines")


def test_a_cache_that_can_be_reset_has_nothing_of_the_run_before(
    tmp_path: Path, inputs: tuple[str, ...]
) -> None:
    """Each prompt at most once, twice: without the reset the second run would be cached whole."""
    conf = write_conf(tmp_path / "o.conf", *OFFLINE_CONF, "*.Offline.target_qps = 0.01")
    flags = ("--dialect", "vllm", "--prefix-cache", "--dev-mode", "--chunk", "4", *CLOCK)
    rates = []
    with emulator(*flags) as engine:
        for _ in range(2):
            more = ("--server-url", engine.url, "--user-conf", str(conf))
            run = run_mlperf("offline", tmp_path, *inputs, *more)
            assert run.code == 0, run.stderr
            rates.append(run.summary["engines"]["all"]["prefix_hit_rate"])
        repeats = run.summary["issued"] - len(np.unique(run.records["index"]))
    assert rates[0] == rates[1]
    assert [cache["said"] for cache in manifest(run)["preparation"]["caches"]] == ["reset"]
    assert "may hold" not in run.stderr
    engine_said = manifest(run)["engines"][0]
    assert (engine_said["stream_interval"], engine_said["dtype"]) == (4, "bfloat16")
    assert (rates[0] > 0.01) is (repeats > 0)


def test_sglang_without_metrics(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    flags = (
        "--dialect",
        "sglang",
        "--prefix-cache",
        "--incremental",
        "--chunk",
        "20",
        *CLOCK,
        "--osl",
        "40",
    )
    with emulator(*flags) as one, emulator(*flags, "--context", "4096") as two:
        urls = f"{one.url},{two.url}"
        run = run_mlperf("server", tmp_path, *inputs, "--server-url", urls, "--warmup", "1")
        truth = one.truth()
    assert run.code == 0, run.stdout + run.stderr
    said, summary = manifest(run), run.summary
    assert [engine["stream_interval"] for engine in said["engines"]] == [20, 20]
    assert said["engines"][0]["incremental_streaming"] is True
    assert [cache["said"] for cache in said["preparation"]["caches"]] == ["reset", "reset"]
    assert len(said["preparation"]["differences"]) == 1
    assert "warning: the replicas differ in context length: 131072 (1: " in run.stderr
    assert (
        "warning: the engine's stream interval is 20 tokens: the run will be marked" in run.stderr
    )
    assert truth[0]["prompt_tokens"] == 44 and truth[0]["n_tokens"] == 16
    assert summary["engines"]["exposed"] == 0
    assert row(run, "engines").endswith("metrics (SGLang shows them with --enable-metrics)")
    caching, streaming = marks(run)[:2]
    assert caching.startswith("prefix caching is on (its hit rate is not known) and ")
    assert "--disable-radix-cache" in caching
    # 40 tokens in events of 1, 20 and 19.
    assert streaming.startswith("an event brought 13.3 tokens, 33 % of the mean answer of 40")
    assert streaming.endswith("a smaller --stream-interval than 20")


def test_a_clean_engine_leaves_no_mark(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    with emulator("--dialect", "vllm", *CLOCK) as engine:
        run = run_mlperf("server", tmp_path, *inputs, "--server-url", engine.url)
        assert len(engine.truth()) == run.summary["issued"]  # --warmup 0
    assert run.code == 0 and "warning" not in run.stderr
    assert not any("cach" in text or "event" in text for text in marks(run))
    assert "prefix cache off" in row(run, "engines")


def test_a_replica_that_fails_its_warm_up_ends_it_before_the_run(
    tmp_path: Path, inputs: tuple[str, ...]
) -> None:
    with emulator(*CLOCK) as well, emulator(*CLOCK, "--fault", "http_500:every=1") as ill:
        urls = f"{well.url},{ill.url}"
        run = run_mlperf("server", tmp_path, *inputs, "--server-url", urls, "--warmup", "2")
        assert len(well.truth()) <= 2
    assert run.code == 3
    assert f"error: {ill.url}: a warm-up request failed: HTTP 500" in run.stderr
    assert not run.folder.exists()


def test_ctrl_c_during_the_warm_up(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    with emulator(*CLOCK, "--fault", "silent:every=1") as engine:
        flags = (*inputs, "--server-url", engine.url, "--warmup", "1")
        command = command_line("server", tmp_path / "output", *flags)
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while not engine.truth() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
        assert process.returncode == 130 and "interrupted before the run began" in stderr


def test_after_ctrl_c_the_engines_are_idle_or_it_is_said(
    tmp_path: Path, inputs: tuple[str, ...]
) -> None:
    slow = ("--dialect", "vllm", "--ttft-ms", "10", "--itl-ms", "20000", "--osl", "60")
    with emulator(*slow) as engine:
        command = command_line("offline", tmp_path / "output", *inputs, "--server-url", engine.url)
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONWARNINGS": "error"},
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not engine.truth() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=40)
        assert process.returncode == 130, stderr
        summary = json.loads(stdout.splitlines()[-1])
        assert summary["left_open"] == {} and "still has" not in stderr
        assert {entry["finish"] for entry in engine.truth()} == {"disconnected"}
    folder = tmp_path / "output" / "offline" / "performance"
    assert len(read_parquet(folder / "queries.parquet")) == summary["issued"]
    assert pq.read_table(folder / "engines.parquet").num_rows >= 2
