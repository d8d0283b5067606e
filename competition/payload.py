"""A result as the competition's leaderboards take it: a bare list whose order is the only key.

First-stage boards take 14 values, of which the last three are perplexities; second-stage boards
take 12, of which the last is GSM8K's share of right answers. The order is that of the competition's
own program, and our leaderboard reads the same list.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from competition.profile import Profile
from core.errors import ConfigError

PASSED = "PASSED"
TEAM_LIMIT = 64  # characters
FIGURES = (
    "team",
    "concurrency",
    "median_e2e_ms",
    "tput_per_gpu",
    "baseline_median_e2e_ms",
    "baseline_tput_per_gpu",
    "e2e_ratio",
    "tput_ratio",
    "interactivity",
    "baseline_interactivity",
    "interactivity_ratio",
)
ACCURACIES = {
    "perplexity": ("bits_per_byte", "byte_perplexity", "word_perplexity"),
    "gsm8k": ("gsm8k_metric",),
}

Value = str | int | float


def fields(profile: Profile) -> tuple[str, ...]:
    """What each value of the profile's list is."""
    return (*FIGURES, *ACCURACIES[profile.accuracy.kind])


def payload_values(team: str, document: Mapping[str, Any], profile: Profile) -> list[Value]:
    """The list, of a result file's content. A point without a baseline gets 0.0 for its figures.

    Raises ConfigError for a result that did not pass, or that lacks a value.
    """
    if document.get("verdict") != PASSED:
        raise ConfigError(
            f"verdict: {document.get('verdict')}; only a result that says {PASSED} can be submitted"
        )
    names = profile.names
    block = _member(document, names.block)
    base = block if isinstance(block, Mapping) else {}
    accuracy = _member(document, "accuracy")
    metrics = accuracy if isinstance(accuracy, Mapping) else {}
    return [
        team_name(team),
        _whole(document, "conc"),
        _number(document, "median_e2el_ms"),
        _number(document, "tput_per_gpu"),
        _number_or_zero(base, names.median_e2e) if base else 0.0,
        _number_or_zero(base, names.tput_per_gpu) if base else 0.0,
        _number_or_zero(document, names.e2e_ratio),
        _number_or_zero(document, names.tput_ratio),
        _number(document, "interactivity"),
        _number_or_zero(base, names.interactivity) if base else 0.0,
        _number_or_zero(document, names.interactivity_ratio),
        *(_number(metrics, name, "accuracy.") for name in ACCURACIES[profile.accuracy.kind]),
    ]


def team_name(text: object) -> str:
    """The name without space around it; any script, quotes and spaces are fine.

    Control characters are not, nor those that turn the direction of the text after them: a name
    stands in tables beside others. Raises ConfigError.
    """
    name = unicodedata.normalize("NFC", text).strip() if isinstance(text, str) else ""
    if not 1 <= len(name) <= TEAM_LIMIT or not any(_visible(mark) for mark in name):
        raise ConfigError(f"team name {_shown(text)}: give 1 to {TEAM_LIMIT} characters")
    if not all(map(_harmless, name)):
        raise ConfigError(f"team name {_shown(text)}: has control characters; leave them out")
    return name


def _visible(mark: str) -> bool:
    return unicodedata.category(mark)[0] in "LNPS"


def _harmless(mark: str) -> bool:
    control = unicodedata.category(mark) in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
    turning = unicodedata.bidirectional(mark) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF"),
        *("LRI", "RLI", "FSI", "PDI"),
    )
    return not (control or turning)


def _shown(text: object) -> str:
    return ascii(text)[: TEAM_LIMIT + 2]


def _member(document: Mapping[str, Any], name: str) -> object:
    try:
        return document[name]
    except KeyError:
        raise ConfigError(f"{name}: the result file lacks it; measure again") from None


def _number(document: Mapping[str, Any], name: str, inside: str = "") -> float:
    return as_number(f"{inside}{name}", document.get(name))


def _number_or_zero(document: Mapping[str, Any], name: str) -> float:
    return 0.0 if _member(document, name) is None else _number(document, name)


def _whole(document: Mapping[str, Any], name: str) -> int:
    return as_whole(name, document.get(name))


def as_number(name: str, value: object) -> float:
    """Raises ConfigError for what is no finite number."""
    if value is None:
        raise ConfigError(f"{name}: there is no value")
    try:
        number = float(value) if type(value) in (int, float) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f"{name}: {_shown(value)} is not a finite number")
    return number


def as_whole(name: str, value: object) -> int:
    """Raises ConfigError for what is no whole number."""
    number = as_number(name, value)
    if not number.is_integer():
        raise ConfigError(f"{name}: {number} is not a whole number")
    return int(number)
