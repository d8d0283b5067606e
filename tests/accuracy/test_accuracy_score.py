"""From verdicts to a score: the formula, the intervals, and everything that forbids a score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accuracy.interval import Interval, clustered_wilson, weighted, wilson
from accuracy.reference import Reference, load_reference
from accuracy.sample import Sample
from accuracy.tally import Score, tally
from accuracy.write import render
from core.errors import ConfigError
from core.rules import ACCURACY_TARGET
from tests.accuracy.answers import write_reference

ROW = Sample(0, 0, 0, "correct", 9, "aime25", "1", "1", True, True)
NAMES = ("aime25",) * 8 + ("gpqa_diamond",) * 10
REFERENCE = Reference("", NAMES, ("1",) * 18, np.array([0] * 8 + [1] * 5 + [2] * 5))


def samples(wrong: set[int] = frozenset()) -> list[Sample]:  # type: ignore[assignment]
    return [
        replace(ROW, offset=row, qsl_idx=row, dataset=name, correct=row not in wrong)
        for row, name in enumerate(NAMES)
    ]


def test_the_formula() -> None:
    score = tally(samples({0, 1, 9}), REFERENCE)
    assert score.score == pytest.approx((6 / 8 + 9 / 5) / (8 / 8 + 10 / 5) * 100)
    assert [(row.problems, row.repeats) for row in score.datasets] == [(1, 8), (2, 5)]
    assert score.passed
    assert render(score).splitlines()[-1] == "'exact_match': 85.000"


def test_other_names_have_one_repeat() -> None:
    reference = replace(REFERENCE, datasets=("aime24",) * 8 + NAMES[8:])
    rows = [replace(row, dataset=reference.datasets[row.qsl_idx]) for row in samples({0})]
    assert tally(rows, reference).score == pytest.approx((7 + 2) / (8 + 2) * 100)


def test_the_target() -> None:
    assert pytest.approx(82.2987) == ACCURACY_TARGET
    low = tally(samples({8, 9, 10, 11}), REFERENCE)
    assert not low.passed
    assert low.complete
    assert low.exit_code == 1
    assert low.reasons == ("the score 73.333 is below the target 82.2987",)
    assert render(low).splitlines()[-1] == "'exact_match': 73.333"
    assert tally(samples({8}), REFERENCE, target=100 * (1 + 9 / 5) / 3).passed  # at it is enough


def without_score(score: Score, reason: str) -> None:
    assert not score.passed
    assert not score.complete
    assert score.score is None
    assert score.interval is None
    assert score.exit_code == 1
    assert any(reason in text for text in score.reasons), score.reasons
    assert "exact_match" not in render(score)


def test_no_score_without_every_sample() -> None:
    without_score(tally(samples()[:-2], REFERENCE), "2 of 18 samples are missing: qsl_idx 16, 17")
    twice = [*samples(), replace(ROW, qsl_idx=3)]
    without_score(tally(twice, REFERENCE), "1 samples are there more than once: qsl_idx 3")
    instead = [*samples()[1:], replace(ROW, qsl_idx=3)]
    without_score(tally(instead, REFERENCE), "missing: qsl_idx 0")
    without_score(tally([], REFERENCE), "18 of 18 samples are missing: qsl_idx 0, 1, 2, 3, 4, ...")
    without_score(tally(samples(), REFERENCE, closed=False), "the log has no end")
    fault = [*samples(), replace(ROW, qsl_idx=99, dataset="", reason="out of range", fault=True)]
    without_score(tally(fault, REFERENCE), "1 entries could not be judged: out of range")


def test_a_failed_query_is_a_wrong_answer_and_fails_the_run() -> None:
    rows = samples({0})
    rows[0] = replace(rows[0], n_tokens=0)
    score = tally(rows, REFERENCE)
    assert score.score == pytest.approx((7 / 8 + 2) / 3 * 100)
    assert not score.passed
    assert score.reasons == ("1 answers are empty, their queries failed: qsl_idx 0",)


def test_intervals() -> None:
    assert wilson(0.5, 100) == Interval(
        0.5, pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4)
    )
    ones, own = np.ones(80, bool), np.arange(80)
    together = np.repeat(np.arange(10), 8)
    assert clustered_wilson(ones, together).low == pytest.approx(wilson(1.0, 10).low)
    half = np.arange(80) % 2 == 0
    assert clustered_wilson(half, own).low == pytest.approx(wilson(0.5, 80).low, abs=0.002)
    same = np.repeat(np.arange(10) % 2 == 0, 8)  # a problem's answers are all right or all wrong
    assert clustered_wilson(same, together).low == pytest.approx(wilson(0.5, 10).low, abs=0.02)
    part = Interval(0.5, 0.4, 0.6)
    both = weighted([(1, part), (1, part)])
    assert (both.share, both.high) == (0.5, pytest.approx(0.5 + 0.1 / 2**0.5))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """30 problems of different difficulty, 8 answers each, a thousand times."""
    random, held = np.random.default_rng(3), 0
    problem = np.repeat(np.arange(30), 8)
    for _ in range(1000):
        ease = random.beta(4, 1, 30)
        found = clustered_wilson(random.random(240) < ease[problem], problem)
        held += found.low <= 0.8 <= found.high
    assert 0.93 < held / 1000 < 0.98


def test_reference_data(tmp_path: Path) -> None:
    rows = [("AIME25", "1"), ("gpqa_diamond", "B"), ("AIME25", "1")]
    file = write_reference(tmp_path / "r.parquet", rows)
    found = load_reference(file, 3)
    assert found.datasets == ("aime25", "gpqa_diamond", "aime25")
    assert found.problems.tolist() == [0, 1, 0]
    assert len(load_reference(file, 2)) == 2
    with pytest.raises(ConfigError, match="pass --expected 3"):
        load_reference(file, None)
    with pytest.raises(ConfigError, match="--expected 4"):
        load_reference(file, 4)
    with pytest.raises(ConfigError, match="no scorer for dataset 'math500'"):
        load_reference(write_reference(tmp_path / "m.parquet", [("math500", "1")]), 1)
