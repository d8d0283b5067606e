"""Real LoadGen over real HTTP against the emulator: our numbers, LoadGen's and the emulator's agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dataset import load_dataset
from engine.clock import answer_ids
from results.latency import tpot_ns, ttft_ns
from tests.harness import (
    OFFLINE_CONF,
    emulator,
    run_mlperf,
    server_conf,
    unmarked,
    write_conf,
    write_dataset,
)

VOCAB = 201_088


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_offline_counts_every_token(tmp_path: Path, dialect: str) -> None:
    data = write_dataset(tmp_path / "d.parquet", n=40)
    conf = write_conf(tmp_path / "u.conf", *OFFLINE_CONF)
    with emulator("--dialect", dialect, "--osl", "24") as engine:
        run = run_mlperf(
            "offline", tmp_path, "--input-file", str(data), "--user-conf", str(conf),
            "--server-url", engine.url,
        )  # fmt: skip
        truth = engine.truth()
    assert run.code == 0, run.stderr
    summary = run.summary
    assert unmarked(summary["verdict"]) == "UNOFFICIAL"
    assert summary["loadgen_validity"] == "VALID"
    assert len(truth) == summary["issued"] == summary["ok"] == len(run.records)
    assert sum(entry["n_tokens"] for entry in truth) == summary["output_tokens"]
    seconds = run.log.values["result_max_latency_ns"] / 1e9
    assert run.log.values["result_tokens_per_second"] * seconds == pytest.approx(
        summary["output_tokens"], rel=1e-4
    )
    dataset = load_dataset(data)
    prompts = sorted(int(dataset.prompt(i).sum()) for i in range(len(dataset)))
    passes = len(truth) // len(dataset)
    assert sorted(entry["prompt_sum"] for entry in truth) == sorted(prompts * passes)
    assert unmarked(run.last_line["verdict"]) == "UNOFFICIAL"


@pytest.mark.parametrize(
    ("mode", "dialect", "flags"),
    [
        ("server", "vllm", ()),
        ("server", "sglang", ()),
        ("server", "sglang", ("--incremental",)),
        ("interactive", "vllm", ("--ping",)),
        ("server", "vllm", ("--split", "7", "--ping")),
    ],
)
def test_timed_scenarios_agree_with_loadgen_and_truth(
    tmp_path: Path, mode: str, dialect: str, flags: tuple[str, ...]
) -> None:
    data = write_dataset(tmp_path / "d.parquet", n=32)
    conf = write_conf(tmp_path / "u.conf", *server_conf(qps=60, seconds=1.5))
    clock = ("--ttft-ms", "40", "--itl-ms", "6", "--chunk", "5", "--osl", "26")
    with emulator("--dialect", dialect, *clock, *flags) as engine:
        run = run_mlperf(
            mode, tmp_path, "--input-file", str(data), "--user-conf", str(conf),
            "--server-url", engine.url,
        )  # fmt: skip
        truth = engine.truth()
    summary, log, records = run.summary, run.log.values, run.records
    assert summary["failures"] == {}, run.stdout
    assert summary["issued"] == len(truth) == log["result_query_count"]
    assert summary["output_tokens"] == 26 * len(truth)
    assert run.log.num_errors == 0
    assert summary["due_times_exact"]
    # What LoadGen heard is what the client measured, but for the way through the pipe.
    ours = np.sort(ttft_ns(records))
    assert ours.mean() <= log["result_first_token_mean_latency_ns"] <= ours.mean() + 30e6
    # The client cannot see a token before the engine sent it.
    sent = np.array([entry["first_ns"] for entry in truth])
    assert np.sort(records["first_token_ns"]).min() >= sent.min()
    assert np.all(np.sort(records["first_token_ns"]) >= np.sort(sent))
    ended = np.array([entry["done_ns"] for entry in truth])
    assert np.all(np.sort(records["done_ns"]) >= np.sort(ended))
    engine_tpot = np.array([(e["done_ns"] - e["first_ns"]) / (e["n_tokens"] - 1) for e in truth])
    assert np.median(tpot_ns(records)) == pytest.approx(np.median(engine_tpot), rel=0.5)
    # With answers of one length LoadGen's TPOT must be its latency less its TTFT over n - 1: all n
    # tokens were reported, the first one included.
    stream_ns = log["result_mean_latency_ns"] - log["result_first_token_mean_latency_ns"]
    assert log["result_time_to_output_token_mean"] == pytest.approx(stream_ns / 25, rel=1e-4)
    events = {entry["n_events"] for entry in truth}
    if dialect == "vllm":  # cumulative events may be skipped by the reader
        assert set(records["n_events"].tolist()) == events == {6}
    limit_ns = {"server": 3_000_000_000, "interactive": 2_000_000_000}[mode]
    assert summary["ttft_limit_ns"] == limit_ns


@pytest.mark.parametrize(("mode", "dialect"), [("offline", "vllm"), ("server", "sglang")])
def test_accuracy_log_holds_the_ids_that_were_sent(tmp_path: Path, mode: str, dialect: str) -> None:
    data = write_dataset(tmp_path / "d.parquet", n=30)
    conf = write_conf(tmp_path / "u.conf", *server_conf(qps=200, seconds=1), *OFFLINE_CONF)
    with emulator("--dialect", dialect, "--osl", "17") as engine:
        run = run_mlperf(
            mode, tmp_path, "--input-file", str(data), "--user-conf", str(conf),
            "--server-url", engine.url, accuracy=True,
        )  # fmt: skip
    assert run.code == 0, run.stdout + run.stderr
    assert (
        unmarked(run.summary["verdict"]) == "UNSCORED"
    )  # there is no ground truth to score against
    entries = json.loads((run.folder / "mlperf_log_accuracy.json").read_text())
    assert sorted(entry["qsl_idx"] for entry in entries) == list(range(30))
    dataset = load_dataset(data)
    for entry in entries:
        expected = answer_ids(dataset.prompt(entry["qsl_idx"]).tolist(), 17, VOCAB)
        assert np.frombuffer(bytes.fromhex(entry["data"]), "<i4").tolist() == expected
        assert entry["token_count"] == 17
        if mode == "server":
            first = np.frombuffer(bytes.fromhex(entry["token_data"]), "<i4").tolist()
            assert first == expected[: len(first)] and first


def test_replicas_share_the_load(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d.parquet", n=60)
    conf = write_conf(tmp_path / "u.conf", *OFFLINE_CONF)
    clock = ("--ttft-ms", "20", "--itl-ms", "1", "--osl", "20")
    with emulator(*clock) as one, emulator(*clock) as two:
        run = run_mlperf(
            "offline", tmp_path, "--input-file", str(data), "--user-conf", str(conf),
            "--server-url", f"{one.url},{two.url}", "--num-workers", "2",
            "--max-concurrency", "16",
        )  # fmt: skip
        shares = [len(one.truth()), len(two.truth())]
    assert run.code == 0, run.stdout + run.stderr
    assert sum(shares) == run.summary["issued"]
    assert max(shares) - min(shares) <= 0.2 * sum(shares)
    assert set(run.records["worker"].tolist()) == {0, 1}


def test_the_first_command_of_the_readme_is_a_demonstration(tmp_path: Path) -> None:
    run = run_mlperf("offline", tmp_path, "--backend", "embedded")
    assert run.code == 0, run.stdout + run.stderr
    summary = run.summary
    assert unmarked(summary["verdict"]) == "DEMONSTRATION"
    assert summary["loadgen_validity"] == "VALID"
    assert "This is a demonstration, not an MLPerf result." in run.stdout
    assert "queries" in run.stderr and "tokens/s" in run.stderr  # progress, in plain lines
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["dataset"]["sha256"] == load_dataset(manifest["dataset"]["path"]).sha256
    assert manifest["engines"][0]["kind"] == "vllm"
    assert manifest["loadgen"]["scenario"] == "Offline"
    assert len(run.records) == summary["issued"] == summary["ok"]
