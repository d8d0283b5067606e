"""The search for the highest rate: what it asks for, what it believes, and one real run of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.gpu.search import Effort, Trial, best, find_rate, search, table
from tests.harness import emulator


def trial(qps: float, *, ttft_ms: float = 100, tpot_ms: float = 20, limited: bool = False) -> Trial:
    return Trial(qps, 10, 1.0, ttft_ms, tpot_ms, 3000, 80, 1.0, limited, "UNOFFICIAL")


@pytest.mark.parametrize("capacity", [0.4, 1.0, 7.3, 10.0, 44.0])
def test_it_finds_the_capacity_from_both_sides(capacity: float) -> None:
    trials = search(
        lambda qps: trial(qps, ttft_ms=100 if qps <= capacity else 9000), Effort(10, 1, 30)
    )
    found = best(trials)
    assert found is not None and found <= capacity < found * 1.05 * 1.001
    assert len(trials) < 20


def test_it_stops_after_so_many_runs_and_may_find_nothing() -> None:
    trials = search(lambda qps: trial(qps, tpot_ms=81), Effort(10, 1, 3))
    assert [round(found.qps, 2) for found in trials] == [10, 6.67, 4.44]
    assert best(trials) is None


def test_a_pass_above_a_failure_was_luck() -> None:
    assert best([trial(5), trial(10, ttft_ms=3001), trial(12)]) == 5


def test_a_run_that_the_harness_limited_proves_nothing() -> None:
    assert best([trial(5), trial(6, limited=True)]) == 5


def test_real_runs(tmp_path: Path) -> None:
    said: list[str] = []
    with emulator("--dialect", "vllm", "--ttft-ms", "20", "--itl-ms", "2") as engine:
        effort = Effort(20, 0.5, 2)
        found = find_rate(
            [engine.url], "interactive", 16, 8, (1, 900), effort, tmp_path, said.append
        )
    assert [one["qps"] for one in found["trials"]] == [20, 30]
    assert [one["queries"] for one in found["trials"]] == [10, 15]
    assert all(one["ttft_p99_ms"] >= 20 and one["tpot_p99_ms"] >= 2 for one in found["trials"])
    assert found["trials"][0]["ttft_limit_ms"] == 2000  # Interactive's, not Server's
    assert len(said) == 2 and table(found).count("\n") == 3


def test_a_rate_at_which_queries_fail_is_too_high_and_costs_no_other(tmp_path: Path) -> None:
    flags = ("--dialect", "vllm", "--fault", "http_500:after=15")
    with emulator(*flags) as engine:
        effort = Effort(20, 0.5, 2)
        found = find_rate([engine.url], "server", 16, 8, (1, 900), effort, tmp_path, print)
    good, bad = found["trials"]
    assert good["passed"] and (bad["qps"], bad["passed"]) == (30, False)
    assert "http_error" in bad["failure"] and found["best_qps"] == 20
    assert "no run" in table(found).splitlines()[-1]
