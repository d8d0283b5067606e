"""The steps that are commands: a real sweep, of which each point tells when it was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.gpu.commands import perplexity_table, sweep, sweep_table
from bench.gpu.options import parse_options
from tests.harness import emulator

BOOTED_NS = 5_000_000_000  # when the other clock began


def test_a_sweep_whose_points_tell_when_they_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.gpu.commands.time.time_ns", lambda: BOOTED_NS + 9 * 10**9)
    monkeypatch.setattr("bench.gpu.commands.time.monotonic_ns", lambda: 9 * 10**9)
    with emulator("--dialect", "vllm", "--ttft-ms", "20", "--itl-ms", "2") as engine:
        flags = ("--server-url", engine.url, "--conc", "1,2", "--lengths", "16/8")
        options = parse_options([*flags, "--sweep-rounds", "3"])
        found = sweep(options, engine.url, (0,), tmp_path / "sweep")
        arrived_s = [(request["arrived_ns"] + BOOTED_NS) / 1e9 for request in engine.truth()]
    points = found["results"]
    assert [(point["conc"], point["completed"]) for point in points] == [(1, 3), (2, 6)]
    for point in points:
        began_s, ended_s = point["began_s"], point["ended_s"]
        assert sum(began_s < moment < ended_s for moment in arrived_s) == point["completed"]
        assert ended_s - began_s == pytest.approx(point["duration"], abs=1e-6)
    assert "compiled" not in sweep_table(found)  # nobody watched
    points[0]["compiles"], points[1]["compiles"] = 2, 0
    assert sweep_table(found).endswith("\nKernels compiled while measured: 2 at 1, 0 at 2.\n")
    assert (tmp_path / "sweep.txt").exists()


def test_a_point_that_fails_costs_no_other(tmp_path: Path) -> None:
    with emulator("--dialect", "vllm", "--fault", "http_500:after=14") as engine:
        flags = ("--server-url", engine.url, "--conc", "1,2", "--lengths", "16/8")
        options = parse_options([*flags, "--sweep-rounds", "3"])
        found = sweep(options, engine.url, (0,), tmp_path / "sweep")
    assert "ended with 1" in found["error"] and "CONC 2" in found["error"]
    assert [p["verdict"] for p in found["results"]][:1] == ["PASSED"]
    assert "began_s" in found["results"][0] and "CONC 2" in sweep_table(found)


def test_the_table_of_perplexity() -> None:
    found = {"n_tokens": 2048, "n_pieces": 2, "seconds": 0.5, "tokens_per_s": 4096.0}
    line = perplexity_table(found | {"word_perplexity": None}).splitlines()[-1]
    assert line == "| 2,048 | 2 | 0.5 | 4,096 | infinite |"
