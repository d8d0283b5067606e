"""summary.json: what a program reads of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.account import DrainAccount
from core.config import RunConfig, Sampling
from core.record import RECORD, Completion
from core.scenario import Scenario
from results.loadgen_log import LoadGenLog
from results.records import Records
from results.summary import Execution, Judged, Summary, summarise
from tests.results.accounts import process, worker

MS = 1_000_000
S = 1000 * MS
URLS = ("http://a:1", "http://b:1")
CONFIG = RunConfig(
    scenario=Scenario.SERVER,
    accuracy=False,
    input_file=Path("d.parquet"),
    demonstration=False,
    mlperf_conf=Path("mlperf.conf"),
    user_conf=Path("user.conf"),
    output_dir=Path("output"),
    sampling=Sampling(max_tokens=10240),
)
EXECUTION = Execution(
    returned=True,
    interrupted=False,
    crash=None,
    issued=100,
    reasons={},
    scheduled_ns=None,
    ttft_limit_ns=3 * S,
    tpot_limit_ns=80 * MS,
    workers=(worker(0, gaps=(10 * MS,)), worker(1)),
    n_workers=2,
    loadgen=process("LoadGen"),
    urls=URLS,
    accuracy_log_complete=True,
)
FULL = replace(EXECUTION, workers=(worker(0), worker(1, busy=(0.95,) * 20)))


def records(late_ns: int = 0, n: int = 100) -> Records:
    """Queries due every 100 ms, over two replicas in turn."""
    queries = []
    for i in range(n):
        due_ns = S + i * 100 * MS
        query = Completion(i, i, due_ns, sent_ns=due_ns + late_ns, n_tokens=11, n_events=11)
        query.first_token_ns, query.done_ns = due_ns + 50 * MS, due_ns + 150 * MS
        query.replica = i % 2
        queries.append(query.pack())
    return np.frombuffer(b"".join(queries), RECORD)


def summary_of(
    config: RunConfig = CONFIG, execution: Execution = EXECUTION, late_ns: int = 0
) -> Summary:
    found = records(late_ns)
    seconds = float(found["done_ns"].max() - found["due_ns"].min()) / S
    values = {
        "result_validity": "VALID",
        "num_errors": 0,
        "power_end": 0,
        "generated_query_count": 100,
        "generated_samples_per_query": 1,
        "result_completed_tokens_per_second": 1100 / seconds,
        "result_tokens_per_second": 1100 / seconds,
    }
    return summarise(config, execution, found, LoadGenLog(values, (), ()), (), Judged())


def test_a_clean_run_says_valid_and_nothing_else() -> None:
    found = json.loads(json.dumps(summary_of().to_json()))
    assert found["verdict"] == "VALID" and found["exit_code"] == 0 and found["reasons"] == []
    assert found["headroom"]["limited"] is False
    assert [share["url"] for share in found["replicas"]] == list(URLS)
    assert [share["tokens"] for share in found["replicas"]] == [550, 550]
    assert found["replicas"][1]["tpot_ns"] == {"p50": 10.0 * MS, "p99": 10.0 * MS}
    assert found["balance"]["tokens_above_mean"] == found["balance"]["tokens_below_mean"] == 0.0
    assert [node["node"] for node in found["balance"]["nodes"]] == ["a", "b"]
    assert found["event_gap_ns"]["p50"] == pytest.approx(10 * MS, rel=0.025)
    assert "judgement" not in found and found["draining"] is None


@pytest.mark.parametrize(("execution", "late_ns"), [(FULL, 0), (EXECUTION, 31 * MS)])
def test_a_limited_run_is_no_valid_one_to_a_program(execution: Execution, late_ns: int) -> None:
    found = summary_of(execution=execution, late_ns=late_ns).to_json()
    assert found["verdict"] == "VALID, but limited by the harness"
    assert found["exit_code"] == 0
    assert found["headroom"]["limited"] is True and len(found["reasons"]) == 1


def test_offline_has_no_lateness() -> None:
    found = summary_of(replace(CONFIG, scenario=Scenario.OFFLINE), late_ns=S)
    assert found.headroom.lateness is None and found.headroom.limited is False


def test_an_accuracy_run_is_not_marked() -> None:
    found = summary_of(replace(CONFIG, accuracy=True), FULL, late_ns=S)
    assert found.judgement.text == "UNSCORED"
    assert found.headroom.limited is None and found.headroom.lateness is not None


def test_draining_is_a_share_of_the_streams() -> None:
    drain = DrainAccount(100, 300, 5 * MS, ends=50, end_wait_sum_ns=50 * MS, end_wait_max_ns=4 * MS)
    found = summary_of(execution=replace(EXECUTION, workers=(worker(0, drain=drain),))).draining
    assert found is not None
    assert (found.reads_share, found.ends_share) == (0.75, 0.5)


def test_a_run_that_never_ended_has_no_workers_accounts() -> None:
    mute = replace(EXECUTION.loadgen, stall_counts=())
    broken = replace(EXECUTION, returned=False, interrupted=True, workers=(), loadgen=mute)
    found = summary_of(execution=broken)
    assert found.judgement.text == "INTERRUPTED"
    assert found.headroom.limited is None and len(found.headroom.processes) == 1
