"""Records, percentiles and verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.check import Check
from core.histogram import EDGES_NS, count_durations, histogram_percentile
from core.outcome import Finish, Outcome
from core.record import RECORD, Completion
from results.folder import RunFolder
from results.latency import Distribution, tpot_ns, ttft_ns
from results.loadgen_log import read_detail_log
from results.records import read_parquet, read_raw, write_parquet
from results.verdict import Facts, Verdict, judge


def completion(**fields: object) -> Completion:
    base = {"query_id": 2**63 + 5, "index": 7, "due_ns": 100, "sent_ns": 110, "first_token_ns": 400}
    rest = {"done_ns": 1300, "n_tokens": 10, "prompt_tokens": 5, "n_events": 4, "replica": 3}
    return Completion(**(base | rest | fields))  # type: ignore[arg-type]


def test_records_survive_disk_and_parquet(tmp_path: Path) -> None:
    raw = tmp_path / "r.bin"
    failed = completion(
        outcome=Outcome.HTTP_ERROR, status=500, finish_reason=Finish.LENGTH, attempts=2
    )
    raw.write_bytes(completion().pack() + failed.pack() + b"cut short")
    records = read_raw(raw)
    assert records.dtype == RECORD and len(records) == 2
    write_parquet(raw, tmp_path / "r.parquet")
    again = read_parquet(tmp_path / "r.parquet")
    assert np.array_equal(records, again)
    assert again["query_id"][0] == 2**63 + 5
    assert again["outcome"].tolist() == [Outcome.OK, Outcome.HTTP_ERROR]


def test_derived_latencies() -> None:
    records = np.frombuffer(completion().pack(), RECORD)
    assert ttft_ns(records).tolist() == [300]
    assert tpot_ns(records).tolist() == [100]  # 900 ns for the nine tokens after the first


def test_percentiles_are_loadgens() -> None:
    found = Distribution.of(np.arange(200, dtype=np.int64))
    assert found == Distribution(mean=99.5, p50=100, p90=180, p99=198, max=199)
    assert Distribution.of(np.array([], np.int64)) is None
    assert Distribution.of(np.array([5], np.int64)) == Distribution(5, 5, 5, 5, 5)


def test_histogram_percentiles_are_exact_to_a_bin() -> None:
    values = np.random.default_rng(1).lognormal(16, 1.5, 100_000).astype(np.int64)
    counts = count_durations(values)
    assert counts.sum() == len(values)
    for percent in (50, 90, 99):
        found = histogram_percentile(counts, percent)
        assert found == pytest.approx(np.percentile(values, percent), rel=0.026)
    assert histogram_percentile(np.zeros_like(counts), 50) is None
    assert count_durations(np.array([0, 10**15]))[[0, -1]].tolist() == [1, 1]
    assert len(EDGES_NS) + 1 == len(counts)


GOOD_CHECK = Check("exact_match", 83.0, 82.2987)
BAD_CHECK = Check("mean output tokens", 1500.0, 1150.38, 1406.02)
BROKEN_CHECK = Check("exact_match", 90.0, 82.2987, problems=("one answer is missing",))
GOOD = Facts(
    interrupted=False,
    crash=None,
    loadgen_returned=True,
    loadgen_complete=True,
    loadgen_valid=True,
    loadgen_errors=0,
    loadgen_queries=10,
    issued=10,
    recorded=10,
    failures={},
    token_rate_difference=0.001,
    invalid_reasons=(),
    unofficial_reasons=(),
    accuracy=False,
    audit=False,
    demonstration=False,
)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.VALID),
        ({"loadgen_valid": False}, Verdict.INVALID),
        ({"unofficial_reasons": ("x",)}, Verdict.UNOFFICIAL),
        ({"demonstration": True, "unofficial_reasons": ("x",)}, Verdict.DEMONSTRATION),
        ({"demonstration": True, "loadgen_valid": False}, Verdict.INVALID),
        ({"accuracy": True, "loadgen_valid": False}, Verdict.UNSCORED),
        ({"accuracy": True, "loadgen_valid": False, "check": GOOD_CHECK}, Verdict.VALID),
        ({"accuracy": True, "check": BAD_CHECK}, Verdict.INVALID),
        ({"accuracy": True, "check": BROKEN_CHECK}, Verdict.INVALID),
        ({"audit": True, "check": BAD_CHECK, "demonstration": True}, Verdict.INVALID),
        ({"audit": True, "loadgen_valid": False, "check": GOOD_CHECK}, Verdict.VALID),
        ({"failures": {"empty": 1}}, Verdict.FAILED),
        ({"failures": {"empty": 1}, "demonstration": True}, Verdict.FAILED),
        ({"failures": {"empty": 1}, "accuracy": True}, Verdict.FAILED),
        ({"recorded": 9}, Verdict.FAILED),
        ({"loadgen_queries": 9}, Verdict.FAILED),
        ({"loadgen_queries": None}, Verdict.FAILED),
        ({"loadgen_complete": False}, Verdict.FAILED),
        ({"loadgen_returned": False}, Verdict.FAILED),
        ({"loadgen_errors": 1}, Verdict.FAILED),
        ({"crash": "boom"}, Verdict.FAILED),
        ({"token_rate_difference": 0.05}, Verdict.FAILED),
        ({"interrupted": True, "failures": {"cancelled": 3}}, Verdict.INTERRUPTED),
    ],
)
def test_verdicts(change: dict[str, object], verdict: Verdict) -> None:
    judgement = judge(replace(GOOD, **change))  # type: ignore[arg-type]
    assert judgement.verdict is verdict
    assert (verdict.exit_code == 0) == (verdict not in ("INVALID", "FAILED", "INTERRUPTED"))
    if verdict.exit_code:
        assert judgement.reasons


@pytest.mark.parametrize(
    ("change", "text", "first"),
    [
        ({}, "VALID, but limited by the harness", "headroom: too busy"),
        (
            {"unofficial_reasons": ("x",)},
            "UNOFFICIAL, but limited by the harness",
            "headroom: too busy",
        ),
        (
            {"demonstration": True},
            "DEMONSTRATION, but limited by the harness",
            "headroom: too busy",
        ),
        (
            {"loadgen_valid": False, "invalid_reasons": ("late",)},
            "INVALID, and limited by the harness",
            "LoadGen: late",
        ),
        ({"crash": "boom"}, "FAILED, and limited by the harness", "the harness failed: boom"),
    ],
)
def test_a_limited_run_is_marked(change: dict[str, object], text: str, first: str) -> None:
    clean = judge(replace(GOOD, **change))  # type: ignore[arg-type]
    marked = judge(replace(GOOD, limited=("too busy",), **change))  # type: ignore[arg-type]
    assert marked.verdict is clean.verdict  # the mark is beside the verdict, not in place of it
    assert clean.text == clean.verdict.value and marked.text == text
    assert marked.reasons[0] == first
    assert set(marked.reasons) == {*clean.reasons, "headroom: too busy"}


def test_an_earlier_run_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for expected in (None, "run.", "run."):
        with RunFolder(path) as folder:
            folder.store(completion().pack())
            folder.convert()
        assert folder.moved is None if expected is None else folder.moved is not None
    assert len([p for p in tmp_path.iterdir() if (p / "queries.parquet").exists()]) == 3


def test_detail_log_that_was_cut_short(tmp_path: Path) -> None:
    line = (
        ':::MLLOG {"key": "a", "value": 1, "metadata": {"is_error": true, "is_warning": false}}\n'
    )
    (tmp_path / "mlperf_log_detail.txt").write_text(line + line[:30])
    log = read_detail_log(tmp_path)
    assert log.values == {"a": 1} and log.num_errors == 1 and not log.complete(accuracy=False)
    assert read_detail_log(tmp_path / "none").values == {}
