"""TEST07 and TEST09 in one command: right settings, right counts, official files, exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from accuracy.compliance import count_problems, output_length
from core.audit import AUDITS
from tests.harness import ROOT, emulator, run_mlperf, server_conf, unmarked, write_conf

VOCAB = 512


def write_rows(path: Path, rows: int, dataset: str = "gpqa_diamond") -> Path:
    random = np.random.default_rng(5)
    ids = list(random.integers(1, VOCAB, (rows, 8), np.int32))
    columns = {
        "input_tokens": pa.array(ids, pa.list_(pa.int32())),
        "dataset": pa.array([dataset] * rows),
        "ground_truth": pa.array(["A"] * rows),
    }
    pq.write_table(pa.table(columns), path)
    return path


def write_tokenizer(folder: Path) -> Path:
    """A vocabulary with Harmony's special tokens in which nothing spells an answer."""
    names = ["return", "constrain", "channel", "start", "end", "message", "call", "endoftext"]
    special = [f"<|{name}|>" for name in names]
    words = [*special, *(f"w{i}" for i in range(VOCAB - len(special)))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("mode", ["offline", "server"])
def test_test07_logs_every_sample_once_and_fails_on_nonsense(tmp_path: Path, mode: str) -> None:
    data = write_rows(tmp_path / "gpqa.parquet", 990)
    conf = write_conf(tmp_path / "u.conf", *server_conf(qps=400, seconds=600))
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    with emulator("--osl", "6", "--vocab", str(VOCAB), "--dialect", "vllm") as engine:
        run = run_mlperf(
            mode, tmp_path, "--compliance", "TEST07", "--input-file", str(data),
            "--user-conf", str(conf), "--server-url", engine.url, "--tokenizer", str(tokenizer),
        )  # fmt: skip
    assert run.code == 1, run.stdout + run.stderr
    top = tmp_path / "output" / mode / "TEST07"
    summary = json.loads((top / "performance" / "run_1" / "summary.json").read_text())
    assert unmarked(summary["verdict"]) == "INVALID"
    assert summary["issued"] == summary["ok"] == 990
    assert summary["check"]["name"] == "exact_match" and summary["check"]["minimum"] == 60.698
    text = (top / "verify_accuracy.txt").read_text()
    assert "TEST FAIL" in text and "'exact_match': 0.000" in text
    entries = json.loads((top / "accuracy" / "mlperf_log_accuracy.json").read_text())
    assert sorted(entry["qsl_idx"] for entry in entries) == list(range(990))
    assert not (tmp_path / "audit.config").exists()
    for name in ("summary", "detail"):
        assert (top / "performance" / "run_1" / f"mlperf_log_{name}.txt").stat().st_size > 0


def test_test07_passes_with_a_model_that_answers(tmp_path: Path) -> None:
    table = pq.read_table(ROOT / "dataset" / "demonstration.parquet")
    choices = table.filter(pc.equal(table["dataset"], "gpqa_diamond"))
    rows = pa.concat_tables([choices] * (990 // len(choices) + 1)).slice(0, 990)
    pq.write_table(rows, tmp_path / "gpqa.parquet")
    checkpoint = str(ROOT / "engine" / "checkpoint")
    run = run_mlperf(
        "offline", tmp_path, "--compliance", "TEST07", "--backend", "embedded", "--max-tokens",
        "48", "--input-file", str(tmp_path / "gpqa.parquet"), "--tokenizer", checkpoint,
    )  # fmt: skip
    assert run.code == 0, run.stdout + run.stderr
    text = (tmp_path / "output" / "offline" / "TEST07" / "verify_accuracy.txt").read_text()
    assert "TEST PASS" in text
    assert run.last_line["check"]["value"] > 90
    assert unmarked(run.last_line["verdict"]) == "UNOFFICIAL"


def test_test09_passes_with_the_right_lengths(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "perf.parquet", 6396)
    with emulator("--osl", "1278", "--vocab", str(VOCAB), "--dialect", "vllm") as engine:
        run = run_mlperf(
            "offline", tmp_path, "--compliance", "TEST09", "--input-file", str(data),
            "--server-url", engine.url, "--max-concurrency", "64",
        )  # fmt: skip
    assert run.code == 0, run.stdout + run.stderr
    top = tmp_path / "output" / "offline" / "TEST09"
    text = (top / "verify_output_len.txt").read_text()
    assert "mean output tokens 1278.000" in text and "TEST PASS" in text
    assert unmarked(run.last_line["verdict"]) == "UNOFFICIAL"  # the emulator only pretends


@pytest.mark.parametrize("test", ["TEST07", "TEST09"])
def test_another_number_of_samples_is_refused(tmp_path: Path, test: str) -> None:
    data = write_rows(tmp_path / "few.parquet", 100)
    run = run_mlperf("offline", tmp_path, "--compliance", test, "--input-file", str(data))
    assert run.code == 2
    assert f"has 100 samples, the test is about {AUDITS[test].samples}" in run.stderr


def write_log(path: Path, lengths: list[int], end: str = "]") -> Path:
    entries = [
        json.dumps({"seq_id": i, "qsl_idx": i, "data": "01000000" * n, "token_count": n})
        for i, n in enumerate(lengths)
    ]
    path.write_text("[\n" + ",\n".join(entries) + "\n" + end)
    return path


@pytest.mark.parametrize(
    ("lengths", "passed"),
    [([1278] * 6396, True), ([1150] * 6396, False), ([1407] * 6396, False), ([1278] * 6395, False)],
)
def test_output_length_has_two_limits_and_a_count(
    tmp_path: Path, lengths: list[int], passed: bool
) -> None:
    check = output_length(write_log(tmp_path / "log.json", lengths), AUDITS["TEST09"])
    assert check.passed is passed
    assert check.value == lengths[0]


def test_a_log_without_end_does_not_pass(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.json", [1278] * 6396, end="")
    assert output_length(log, AUDITS["TEST09"]).problems == ("log.json has no end",)


def test_a_sample_logged_twice_is_named() -> None:
    from collections import Counter

    assert count_problems(Counter({1: 1, 2: 2}), 2) == [
        "1 samples are logged more than once, for example 2"
    ]
