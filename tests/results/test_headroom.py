"""The self-audit: when the harness was the bottleneck, and when that cannot be said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from core.account import DrainAccount, ProcessAccount, WorkerAccount
from results.headroom import Headroom, judge_headroom
from results.latency import Distribution
from tests.results.accounts import NO_DRAIN, counts, process, worker

CALM = process("LoadGen")
LIMIT_NS = 3_000_000_000  # TTFT
ON_TIME = Distribution(mean=1e5, p50=1e5, p90=2e5, p99=4e5, max=1e6)


def judged(
    *workers: WorkerAccount,
    loadgen: ProcessAccount = CALM,
    delay: Distribution | None = ON_TIME,
    test_s: float = 20.0,
    **options: Any,
) -> Headroom:
    workers = workers or (worker(),)
    given = {"n_workers": len(workers), "max_concurrency": None, "by_answers": False} | options
    return judge_headroom(workers, loadgen, delay, LIMIT_NS, test_s, **given)


def test_a_calm_run_is_not_limited() -> None:
    found = judged(worker(0), worker(1, busy=(0.0,) * 20))
    assert found.limited is False and found.reasons == () and found.unjudged is None
    assert [load.name for load in found.processes] == ["LoadGen", "worker 0", "worker 1"]
    assert found.lateness is not None and found.lateness.limit_ns == 30_000_000


@pytest.mark.parametrize(
    ("busy", "peak", "limited"),
    [
        ((0.8,) * 20, 0.8, False),  # the border itself is allowed
        ((0.81,) * 20, 0.81, True),
        ((0.0,) * 5 + (1.0,) * 8 + (0.0,) * 7, 0.8, False),  # eight full seconds of ten
        ((0.0,) * 5 + (1.0,) * 9 + (0.0,) * 6, 0.9, True),
        ((1.0,) * 10 + (0.0,) * 90, 1.0, True),  # at the start; the mean alone says 10 %
        ((0.0,) * 90 + (1.0,) * 10, 1.0, True),  # at the end
        ((1.0, 0.0) * 50, 0.5, False),
    ],
)
def test_the_busiest_ten_seconds_decide(
    busy: tuple[float, ...], peak: float, limited: bool
) -> None:
    found = judged(worker(0, busy=busy), test_s=len(busy))
    assert found.processes[1].peak_busy == pytest.approx(peak)
    assert found.processes[1].mean_busy == pytest.approx(sum(busy) / len(busy), abs=1e-4)
    assert found.limited is limited


def test_a_short_test_is_not_thinned_by_the_time_around_it() -> None:
    found = judged(worker(0, busy=(0.0, 0.95, 0.95, 0.95, 0.0)), test_s=3.4)
    assert found.window_s == 3
    assert found.processes[1].peak_busy == 0.95 and found.limited
    assert "busiest 3 s" in found.reasons[0]


def test_without_enough_samples_the_mean_is_taken() -> None:
    sparse = ProcessAccount("LoadGen", cpu_s=4.5, wall_s=5.0, busy=(0.5,), stall_counts=())
    assert judged(loadgen=sparse, test_s=5.0).processes[0].peak_busy == 0.9
    silent = ProcessAccount("LoadGen", cpu_s=0.0, wall_s=0.0, busy=(), stall_counts=())
    assert judged(loadgen=silent, test_s=5.0).processes[0].peak_busy == 0.0


@pytest.mark.parametrize(("test_s", "limited"), [(0.0, None), (1.99, None), (2.0, True)])
def test_very_short_tests_are_not_judged(test_s: float, limited: bool | None) -> None:
    late = replace(ON_TIME, p99=1e9)
    found = judged(worker(0, busy=(1.0, 1.0, 1.0)), delay=late, test_s=test_s)
    assert found.limited is limited
    assert bool(found.reasons) == bool(limited)
    assert (found.unjudged is None) == bool(limited)


def test_a_worker_that_gave_no_account_leaves_a_doubt() -> None:
    found = judged(worker(0), n_workers=2)
    assert found.limited is None and found.unjudged == "a worker gave no account of itself"
    busy = judged(worker(0, busy=(1.0,) * 20), n_workers=2)
    assert busy.limited is True and "--num-workers 3" in busy.reasons[0]
    none = judge_headroom(
        (), CALM, ON_TIME, LIMIT_NS, 20.0, n_workers=1, max_concurrency=None, by_answers=False
    )
    assert none.limited is None


def test_a_run_about_its_answers_is_not_judged() -> None:
    found = judged(worker(0, busy=(1.0,) * 20), by_answers=True)
    assert found.limited is None and found.reasons == () and found.unjudged


@pytest.mark.parametrize(("p99", "limited"), [(30e6, False), (30e6 + 1, True)])
def test_lateness_over_a_hundredth_of_the_ttft_limit(p99: float, limited: bool) -> None:
    found = judged(delay=replace(ON_TIME, p99=p99))
    assert found.limited is limited
    if limited:
        (reason,) = found.reasons
        assert "30.0 ms late" in reason and "less other load" in reason
        assert "--max-concurrency" not in reason
    capped = judged(delay=replace(ON_TIME, p99=p99), max_concurrency=64)
    assert any("--max-concurrency 64" in reason for reason in capped.reasons) is limited


def test_without_a_schedule_nothing_is_late() -> None:
    found = judged(delay=None)
    assert found.lateness is None and found.limited is False


def test_remedies_are_those_that_can_help() -> None:
    full = (0.9,) * 20
    (streamed,) = judged(worker(0, busy=full), worker(1)).reasons
    assert streamed.startswith("worker 0 used 90 % of a core in its busiest 10 s")
    assert (
        "--num-workers 3" in streamed
        and "stream interval" in streamed
        and "--drain auto" in streamed
    )
    drained = replace(NO_DRAIN, period_ns=5_000_000)
    (reason,) = judged(worker(0, busy=full, drain=drained)).reasons
    assert "stream interval" in reason and "--drain" not in reason
    (offline,) = judged(worker(0, busy=full), delay=None).reasons
    assert "--num-workers 2" in offline and "interval" not in offline and "--drain" not in offline
    (main,) = judged(loadgen=process("LoadGen", full)).reasons
    assert main.startswith("LoadGen used 90 %") and "--num-workers" not in main


def test_many_busy_workers_are_one_reason() -> None:
    shares = (0.1, 0.9, 0.97)
    found = judged(*(worker(i, busy=(share,) * 20) for i, share in enumerate(shares)))
    (reason,) = found.reasons
    assert reason.startswith("worker 2 used 97 %") and "2 of 3 workers did" in reason
    assert found.busiest.name == "worker 2"


def test_stalls_are_those_of_the_process() -> None:
    found = judged(worker(0, stalls=(100_000,) * 990 + (50_000_000,) * 10), worker(1))
    load, idle = found.processes[1:]
    assert load.turn_p99_ns == pytest.approx(100_000, rel=0.025)
    assert load.turn_max_ns == pytest.approx(50_000_000, rel=0.025)
    assert idle.turn_p99_ns is None and idle.turn_max_ns is None
    # One that could not tell, because LoadGen never came back, has no counts at all.
    mute = replace(CALM, stall_counts=())
    assert judged(loadgen=mute).processes[0].turn_p99_ns is None


def test_an_account_survives_the_pipe() -> None:
    account = WorkerAccount(
        ProcessAccount("worker 3", 1.5, 20.25, (0.25, 0.5), counts(5_000, 7_000_000)),
        counts(1_000_000),
        DrainAccount(10, 20, 5_000_000, 3, 6_000_000, 4_000_000),
        {"http://a:1": "refused"},
    )
    again = WorkerAccount.from_json(account.to_json())
    assert again == account
    assert hash(again.process) == hash(account.process)  # tuples again, not JSON's lists
    assert json.loads(account.to_json())["process"]["name"] == "worker 3"
