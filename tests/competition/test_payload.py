"""The list that leaderboards take: its order, what is zero, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from competition.payload import payload_values, team_name
from competition.profile import DEFAULT, Lengths, load_profile
from core.errors import ConfigError
from tests.competition.board import SECOND_STAGE, document

PROFILE = load_profile(DEFAULT)


def test_the_order_is_the_original_programs() -> None:
    found = document(
        concurrency=4,
        median_e2el_ms=2000.0,
        tput_per_gpu=400.0,
        interactivity=420.0,
        median_e2e_ratio_vs_b200_1126=0.92,
        tput_per_gpu_ratio_vs_b200_1126=0.97,
        interactivity_ratio_vs_b200_1126=0.96,
        accuracy={"word_perplexity": 222.0, "bits_per_byte": 2.05, "byte_perplexity": 4.15},
    )
    assert payload_values(" Team ", found, PROFILE) == [
        *("Team", 4, 2000.0, 400.0, 2162, 413.779, 0.92, 0.97, 420.0, 434.57, 0.96),
        *(2.05, 4.15, 222.0),
    ]


def test_without_a_baseline_its_figures_are_zero() -> None:
    values = payload_values("Team", document(concurrency=16), PROFILE)
    assert [values[place] for place in (4, 5, 6, 7, 9, 10)] == [0.0] * 6
    assert len(values) == 14


def test_the_second_stage_takes_twelve_values_with_gsm8k_at_the_end() -> None:
    found = document(profile=SECOND_STAGE, lengths=Lengths(8192, 1024), concurrency=32)
    values = payload_values("Team", found, load_profile(SECOND_STAGE))
    assert (len(values), values[5], values[-1]) == (12, 21500.0, 0.9)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"verdict": "FAILED"}, "FAILED"),
        ({"verdict": None}, "verdict"),
        ({"conc": 4.5}, "conc"),
        ({"conc": True}, "conc"),
        ({"median_e2el_ms": None}, "median_e2el_ms"),
        ({"tput_per_gpu": "400"}, "tput_per_gpu"),
        ({"interactivity": float("nan")}, "interactivity"),
        ({"interactivity": 10**400}, "interactivity"),
        ({"accuracy": None}, "accuracy.bits_per_byte"),
        ({"accuracy": {"bits_per_byte": 2.0}}, "accuracy.byte_perplexity"),
    ],
)
def test_what_cannot_be_submitted_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        payload_values("Team", document(**changes), PROFILE)


@pytest.mark.parametrize(
    "name",
    [
        *("conc", "interactivity", "b200_baseline_nv1126", "median_e2e_ratio_vs_b200_1126"),
        *("accuracy", "verdict"),
    ],
)
def test_a_missing_value_is_named(name: str) -> None:
    found = document()
    del found[name]
    with pytest.raises(ConfigError, match=name):
        payload_values("Team", found, PROFILE)


@pytest.mark.parametrize(
    "name", ["A \"quoted\" 'team'; $(x)", "Équipe 東京 🚀", "x" * 64, "-", "=1+1", "<b>"]
)
def test_any_team_name_works(name: str) -> None:
    assert team_name(f"  {name}\t") == name


@pytest.mark.parametrize(
    "name", ["", " \t ", "x" * 65, "a\nb", "a\x00b", "a\x1b[31m", "a\u202eb", "\u200b", None, 7]
)
def test_a_name_that_would_deceive_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="team name"):
        team_name(name)
