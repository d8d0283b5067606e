"""What the harness costs, as ratios to a C client that does the same work in the same run.

CPU time only, never wall time, and bounds far above what was measured (the comments say how far):
this finds a client that has become several times as dear, not one that is a tenth slower. What the
harness really costs is told by `python -m bench`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import workloads as known
from bench.measure import run_twice, slope
from bench.suite import Found, against, per_event, per_query
from bench.workloads import Workload, with_prompts
from engine.emulator import Emulator, compiler

# .ci/run installs a compiler or stops: there it cannot be skipped unseen.
pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler")

MAX_RATIO_PER_QUERY = 12.0  # measured: 6.3 and 7.8
MAX_RATIO_PER_EVENT = 5.0  # measured: 2.0 and 2.5
MAX_RATIO_OF_PROMPTS = 4.0  # 8 times the bytes; measured: 1.2 and 1.4
TRIES = 3  # the machine may be busy once

QUERIES = replace(known.A, rows=100, sizes=(500, 6_000))
EVENTS = replace(known.B, max_tokens=250, engine=("--itl-ms", "4"), sizes=(64, 192))


def ratio(measure: Callable[[str, Workload], Found], work: Workload) -> float:
    [(ours, floor)] = measure("", work).values()
    assert floor is not None and floor > 0
    return ours / floor


def least(measure: Callable[[], float], bound: float) -> float:
    """The smallest of a few values, or the first that is within the bound."""
    found = measure()
    for _ in range(TRIES - 1):
        if found <= bound:
            break
        found = min(found, measure())
    return found


def test_a_query_that_is_not_streamed() -> None:
    bound = MAX_RATIO_PER_QUERY
    assert 0 < least(lambda: ratio(per_query, QUERIES), bound) <= bound


def test_an_event_of_a_stream() -> None:
    bound = MAX_RATIO_PER_EVENT
    assert 0 < least(lambda: ratio(per_event, EVENTS), bound) <= bound


def test_a_long_prompt_costs_no_more_than_its_bytes() -> None:
    def growth() -> float:
        long, short = (cpu_us(tokens) for tokens in (8_192, 1_024))
        return long / short

    bound = MAX_RATIO_OF_PROMPTS
    assert 0 < least(growth, bound) <= bound


def cpu_us(tokens: int) -> float:
    workload = replace(with_prompts(tokens), sizes=(100, 1_500))

    def measure(emulator: Emulator, folder: Path) -> Found:
        return {"": (slope(*run_twice(workload, emulator.urls, folder)).query_us, None)}

    return against(workload, measure)[""][0]
