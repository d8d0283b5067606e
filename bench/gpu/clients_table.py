"""The runs of two clients as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from bench.gpu.clients import CLIENTS, Run, good
from bench.gpu.compiles import shown
from bench.gpu.markdown import markdown

HEAD = (
    *("client", "TTFT p50 / p99 / mean", "from due", "engine's mean [p50 in]"),
    *("TPOT p50 / p99 / mean", "engine's mean [p50 in]", "CPU/request", "late p99", "compiled"),
)
NO_RUN = "no run: requests failed, or the client"


def table(result: Mapping[str, Any]) -> str:
    """In Markdown, milliseconds: a line a run, and one of medians for each client's good runs."""
    runs: list[Run] = result["runs"]
    lines = [_line(run["who"], [run]) if good(run) else _no_run(run) for run in runs]
    for who in CLIENTS:
        if mine := [run for run in runs if run["who"] == who and good(run)]:
            lines.append(_line(f"{who}, median", mine))
    return markdown(HEAD, lines)


def _no_run(run: Run) -> tuple[str, ...]:
    blank = ("",) * (len(HEAD) - 3)
    return run["who"], NO_RUN, *blank, shown(run.get("compiles"))


def _line(name: str, runs: Sequence[Run]) -> tuple[str, ...]:
    return (
        name,
        _three(runs, "client", "ttft"),
        _three(runs, "from_due", "ttft"),
        _engine(runs, "ttft"),
        _three(runs, "client", "tpot"),
        _engine(runs, "tpot"),
        _median(runs, "cpu_ms_per_request"),
        _median(runs, "from_due", "late", "p99"),
        ", ".join(shown(run.get("compiles")) for run in runs),
    )


def _three(runs: Sequence[Run], *path: str) -> str:
    cells = [_median(runs, *path, name) for name in ("p50", "p99", "mean")]
    return " / ".join(cells) if any(cells) else ""


def _engine(runs: Sequence[Run], name: str) -> str:
    """The mean, and what the buckets of the median span."""
    low, high = zip(*(run["engine"][name]["p50"] for run in runs), strict=True)
    top = "∞" if None in high else f"{max(high):g}"
    return f"{_median(runs, 'engine', name, 'mean')} [{min(low):g}, {top}]"


def _median(runs: Sequence[Run], *path: str) -> str:
    """Of what stands there in each run; nothing where it stands in none."""
    values: list[Any] = [reduce(lambda found, key: found and found[key], path, run) for run in runs]
    return "" if None in values else f"{statistics.median(values):.2f}"
