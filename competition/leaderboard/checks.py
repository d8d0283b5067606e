"""What a submission's values must be: plausible, in agreement with each other, accurate enough.

The accuracy is checked here too, since performance counts for nothing without it. All functions
raise ConfigError with a sentence for the one who submits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from competition.payload import as_number, as_whole
from competition.profile import Lengths, Profile
from core.errors import ConfigError

DOCUMENT_LIMIT = 256 * 1024  # bytes
TEXT_LIMIT = 100  # characters
RANGES = {
    "median_e2e_ms": (1e-3, 1e9),
    "tput_per_gpu": (1e-6, 1e7),
    "interactivity": (0, 1e6),
    "tp": (1, 4096),
    "gpus_used": (1, 4096),
}
# The competition's own program prints its ratios with few digits.
TOLERANCE = 0.01


def parse(text: object) -> dict[str, Any]:
    if not isinstance(text, str) or len(text.encode(errors="replace")) > DOCUMENT_LIMIT:
        raise ConfigError(f"the document must be JSON text of at most {DOCUMENT_LIMIT} bytes")
    try:
        document = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ConfigError("the document is not JSON, or holds NaN or Infinity") from None
    if not isinstance(document, dict):
        raise ConfigError("the document is not a result file: no JSON object")
    return document


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def in_range(name: str, value: float) -> None:
    low, high = RANGES[name]
    if not low <= value <= high:
        raise ConfigError(f"{name}: {value:g} is not plausible; expected {low:g} to {high:g}")


def count(name: str, value: object) -> int | None:
    if value is None:
        return None
    number = as_whole(name, value)
    in_range(name, number)
    return number


def check_ratios(numbers: Mapping[str, float]) -> None:
    """A ratio must be that of the figures beside it; 0 stands for none."""
    for figure, baseline, ratio in (
        ("median_e2e_ms", "baseline_median_e2e_ms", "e2e_ratio"),
        ("tput_per_gpu", "baseline_tput_per_gpu", "tput_ratio"),
        ("interactivity", "baseline_interactivity", "interactivity_ratio"),
    ):
        below, given = numbers[baseline], numbers[ratio]
        if below < 0 or given < 0:
            raise ConfigError(f"{baseline}, {ratio}: {below:g}, {given:g}; none may be negative")
        if below and given and abs(numbers[figure] / below / given - 1) > TOLERANCE:
            raise ConfigError(
                f"{ratio}: {given:g}, but {figure} is {numbers[figure]:g} "
                f"and its baseline {below:g}: these do not agree"
            )


def check_accuracy(accuracy: Mapping[str, float], profile: Profile) -> None:
    rule = profile.accuracy
    for name, value in accuracy.items():
        if rule.kind == "gsm8k":
            low, high = rule.minimum, 1.0
        else:
            low, high = 0.0, rule.baselines[name] * rule.multiplier
        if not low <= value <= high or not value:
            raise ConfigError(f"{name}: {value:g} does not pass; it must be {low:g} to {high:g}")


def check_concurrency(concurrency: int, profile: Profile, lengths: Lengths) -> None:
    """One of the rule's: a board ranks results of the same load."""
    known = profile.rule(lengths).concurrencies
    if concurrency not in known:
        raise ConfigError(
            f"concurrency: {concurrency:g}; ISL/OSL {lengths} is measured at "
            f"{', '.join(map(str, known))}"
        )


def check_run(document: Mapping[str, Any], profile: Profile, lengths: Lengths) -> None:
    """That the result was measured as the rules have it, by what the document says of itself.

    Each of these is in every result file, so what lacks one is no such file.
    """
    details = _part(_part(document, "accuracy_validation"), "details")
    for name in ("whole", "comparable"):
        _expect(
            f"accuracy_validation.details.{name}",
            details.get(name) is True,
            details.get(name),
            "true: measure the accuracy with all of the competition's own test",
        )
    reasons = document.get("reasons")
    _expect("reasons", reasons == [], reasons, "none: what has a reason against it does not count")
    failed = as_whole("failed_requests", document.get("failed_requests"))
    _expect("failed_requests", failed == 0, failed, "0: measure again")
    used, most = as_whole("gpus_used", document.get("gpus_used")), profile.gpus_per_node
    _expect("gpus_used", used <= most, used, f"at most {most}, by which tput_per_gpu is divided")
    _check_arguments(_part(document, "benchmark_args"), profile, lengths, document.get("conc"))


def _check_arguments(
    arguments: Mapping[str, Any], profile: Profile, lengths: Lengths, concurrency: object
) -> None:
    prompts = profile.prompts(lengths, as_whole("conc", concurrency))
    for name, wanted in (
        ("num_prompts", float(prompts)),
        ("random_range_ratio", float(profile.defaults["RANDOM_RANGE_RATIO"])),
    ):
        path = f"benchmark_args.{name}"
        given = as_number(path, arguments.get(name))
        _expect(path, given == wanted, given, f"{wanted:g}: measure again with it")


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def _expect(name: str, met: bool, found: object, wanted: str) -> None:
    if not met:
        raise ConfigError(f"{name}: {ascii(found)[:TEXT_LIMIT]}; expected {wanted}")


def moment(value: object, now: datetime) -> datetime:
    try:
        date = datetime.fromisoformat(value if isinstance(value, str) else "")
        date = date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"date: {line('date', value)}; expected ISO 8601 in UTC") from None
    if not datetime(2025, 1, 1, tzinfo=UTC) <= date <= now + timedelta(days=1):
        raise ConfigError(f"date: {date.isoformat()} is before 2025 or in the future")
    return date


def line(name: str, value: object) -> str:
    """Short text of one line; "" for none."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > TEXT_LIMIT or not value.isprintable():
        raise ConfigError(f"{name}: expected text of one line, at most {TEXT_LIMIT} characters")
    return value
