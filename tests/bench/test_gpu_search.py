"""The search for the highest rate: what it asks for, what it believes, and one real run of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bench.gpu import search as search_module
from bench.gpu.ours import Ask, Load
from bench.gpu.search import GROWTH, Effort, Trial, best, find_rate, search, table
from core.errors import RunError
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
        ask = Ask(16, 8, (1, 900))
        found = find_rate([engine.url], "interactive", ask, effort, tmp_path, said.append, Event())
    first, second = found["trials"]
    assert (first["qps"], second["qps"]) == (20, after(first))
    assert (first["queries"], second["queries"]) == (10, round(after(first) / 2))
    assert all(one["ttft_p99_ms"] >= 20 and one["tpot_p99_ms"] >= 2 for one in found["trials"])
    assert found["trials"][0]["ttft_limit_ms"] == 2000  # Interactive's, not Server's
    assert len(said) == 2 and table(found).count("\n") == 4


def test_a_rate_at_which_queries_fail_is_too_high_and_costs_no_other(tmp_path: Path) -> None:
    flags = ("--dialect", "vllm", "--fault", "http_500:after=15")
    with emulator(*flags) as engine:
        found = find_server_rate(engine.url, tmp_path, Event())
    good, bad = found["trials"]
    assert (good["failure"], bad["qps"], bad["passed"]) == (None, after(good), False)
    assert "http_error" in bad["failure"] and found["best_qps"] == passed(good)
    assert found["error"] is None
    assert f"| {bad['qps']:.2f} |  |  |  |  |  |  | no run" in table(found)


def passed(trial: dict[str, Any]) -> float | None:
    """Its rate; on a busy machine a real run may be limited by the harness, and prove nothing."""
    return trial["qps"] if trial["passed"] else None


def after(trial: dict[str, Any]) -> float:
    """The second rate."""
    return float(trial["qps"] * GROWTH if trial["passed"] else trial["qps"] / GROWTH)


def find_server_rate(url: str, folder: Path, stopped: Event) -> dict[str, Any]:
    return find_rate(
        [url], "server", Ask(16, 8, (1, 900)), Effort(20, 0.5, 2), folder, print, stopped
    )


def test_a_search_without_a_run_has_not_ended_well(tmp_path: Path) -> None:
    with emulator("--dialect", "vllm", "--fault", "http_500:every=1") as engine:
        found = find_server_rate(engine.url, tmp_path, Event())
    assert len(found["trials"]) == 2 and found["best_qps"] is None
    assert "no rate gave a run: run_mlperf.py ended with 4" in found["error"]


def test_a_run_that_was_ended_by_us_says_nothing_of_its_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes in the second run, whose client then ends as one that failed."""
    stopped, run_ours = Event(), search_module.run_ours

    def run(load: Load, urls: Sequence[str], folder: Path) -> dict[str, Any]:
        found = run_ours(load, urls, folder)
        if load.qps != 20:
            stopped.set()
            raise RunError("run_mlperf.py ended with 130")
        return found

    monkeypatch.setattr(search_module, "run_ours", run)
    with emulator("--dialect", "vllm") as engine:
        found = find_server_rate(engine.url, tmp_path, stopped)
    assert [trial["qps"] for trial in found["trials"]] == [20]
    assert found["error"] == "interrupted" and found["best_qps"] == passed(found["trials"][0])
