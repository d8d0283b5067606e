"""The client's two ways of saving time, over real HTTP: pacing (Offline) and draining (streams)."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from dataset import load_dataset
from engine.clock import answer_ids
from results.records import Records
from tests.harness import (
    OFFLINE_CONF,
    emulator,
    run_mlperf,
    server_conf,
    write_conf,
    write_dataset,
)

VOCAB = 201_088


def most_open(records: Records) -> int:
    """The most queries that were open at the same time."""
    instants = np.concatenate([records["sent_ns"], records["done_ns"]])
    changes = np.repeat([1, -1], len(records))
    return int(np.cumsum(changes[np.lexsort((changes, instants))]).max())


def test_offline_is_paced(tmp_path: Path) -> None:
    """Three engines and one at a third of their speed. With a fixed limit, all 800 queries would be
    given out at the start, a quarter to each, and the fast ones would wait for the slow one."""
    n, replicas = 800, 4
    data = write_dataset(tmp_path / "d.parquet", n=n)
    conf = write_conf(tmp_path / "u.conf", *OFFLINE_CONF)
    with ExitStack() as stack:
        engines = [
            stack.enter_context(emulator("--osl", "40", "--max-running", "8", "--itl-ms", itl_ms))
            for itl_ms in ("4", "4", "4", "12")
        ]
        run = run_mlperf(
            "offline", tmp_path, "--input-file", str(data), "--user-conf", str(conf),
            "--server-url", ",".join(engine.url for engine in engines), "--num-workers", "2",
        )  # fmt: skip
        truth = [engine.truth() for engine in engines]
    assert run.code == 0, run.stdout + run.stderr
    records = run.records
    assert len(records) == n == run.summary["ok"]
    assert set(records["worker"].tolist()) == {0, 1}
    served = [len(entries) for entries in truth]
    assert np.bincount(records["replica"], minlength=replicas).tolist() == served
    *fast, slow = served
    assert slow < 0.85 * n / replicas < n / replicas < min(fast)
    assert max(fast) - min(fast) < 0.1 * n / replicas
    # Half of each replica's part at first, whichever worker holds it; nobody asked for more.
    for replica in range(replicas):
        assert most_open(records[records["replica"] == replica]) <= n / (2 * replicas)


def test_hungry_engines_get_more_than_they_were_given_at_first(tmp_path: Path) -> None:
    """Answers take four seconds, so that the engines have spoken before the first ones end."""
    n = 120
    data = write_dataset(tmp_path / "d.parquet", n=n)
    conf = write_conf(tmp_path / "u.conf", *OFFLINE_CONF)
    clock = ("--osl", "40", "--itl-ms", "100")
    with emulator(*clock) as one, emulator(*clock) as two:
        run = run_mlperf(
            "offline", tmp_path, "--input-file", str(data), "--user-conf", str(conf),
            "--server-url", f"{one.url},{two.url}", "--num-workers", "2",
        )  # fmt: skip
    assert run.code == 0, run.stdout + run.stderr
    for replica in range(2):
        assert most_open(run.records[run.records["replica"] == replica]) > n / 4


@pytest.mark.parametrize(
    ("dialect", "flags"),
    [("vllm", ()), ("sglang", ()), ("sglang", ("--incremental",)), ("vllm", ("--ping",))],
)
def test_drained_answers_are_whole(tmp_path: Path, dialect: str, flags: tuple[str, ...]) -> None:
    n, osl = 60, 80
    data = write_dataset(tmp_path / "d.parquet", n=n)
    conf = write_conf(tmp_path / "u.conf", *server_conf(qps=60, seconds=1))
    clock = ("--ttft-ms", "10", "--itl-ms", "3", "--osl", str(osl), *flags)
    with emulator("--dialect", dialect, *clock) as engine:
        run = run_mlperf(
            "server", tmp_path, "--input-file", str(data), "--user-conf", str(conf),
            "--server-url", engine.url, "--drain", "5", accuracy=True,
        )  # fmt: skip
        truth = engine.truth()
    assert run.code == 0, run.stdout + run.stderr
    records = run.records
    assert len(records) == len(truth) == n
    assert sorted(records["n_tokens"]) == sorted(entry["n_tokens"] for entry in truth) == [osl] * n
    entries = json.loads((run.folder / "mlperf_log_accuracy.json").read_text())
    dataset = load_dataset(data)
    assert sorted(entry["qsl_idx"] for entry in entries) == list(range(n))
    for entry in entries:
        expected = answer_ids(dataset.prompt(entry["qsl_idx"]).tolist(), osl, VOCAB)
        assert np.frombuffer(bytes.fromhex(entry["data"]), "<i4").tolist() == expected
    if dialect == "vllm":  # cumulative events may be skipped by the engine and the reader
        assert set(records["n_events"].tolist()) == {osl}
    # No end is seen before the engine sent it.
    ended = np.sort([entry["done_ns"] for entry in truth])
    assert np.all(np.sort(records["done_ns"]) >= ended)
