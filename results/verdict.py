"""The verdict: our own AND LoadGen's. A run with errors never looks good.

LoadGen says VALID to runs whose every answer was an error, and the official checker accepts runs that
LoadGen calls INVALID, so neither is trusted alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from core.check import Check


class Verdict(StrEnum):
    """What a run is worth, from best to worst."""

    VALID = "VALID"  # could be submitted
    UNSCORED = "UNSCORED"  # an accuracy run without failures whose answers could not be scored
    UNOFFICIAL = "UNOFFICIAL"  # clean and within LoadGen's limits, but not by the rules
    DEMONSTRATION = "DEMONSTRATION"  # the same, with bundled data
    INVALID = "INVALID"  # LoadGen's limits, the accuracy target or a compliance test were not met
    FAILED = "FAILED"  # queries failed, or the harness did
    INTERRUPTED = "INTERRUPTED"

    @property
    def exit_code(self) -> int:
        return {"INVALID": 1, "FAILED": 4, "INTERRUPTED": 130}.get(self.value, 0)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a verdict rests on."""

    interrupted: bool
    crash: str | None
    loadgen_returned: bool
    loadgen_complete: bool
    loadgen_valid: bool
    loadgen_errors: int
    loadgen_queries: int | None  # queries that LoadGen says it issued
    issued: int
    recorded: int
    failures: dict[str, int]  # outcome -> count
    token_rate_difference: float | None  # ours against LoadGen's, relative
    invalid_reasons: tuple[str, ...]
    unofficial_reasons: tuple[str, ...]
    accuracy: bool
    audit: bool
    demonstration: bool
    limited: tuple[str, ...] = ()  # why the harness was the bottleneck, if it was
    check: Check | None = None  # of the answers, where they were judged
    unscored_reason: str | None = None


MARK = "limited by the harness"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reasons."""

    verdict: Verdict
    reasons: tuple[str, ...]
    limited: bool = False  # the harness was the bottleneck

    @property
    def text(self) -> str:
        """The verdict with its mark. Other words than VALID, so that no parser takes it for that."""
        if not self.limited:
            return self.verdict.value
        joint = "and" if self.verdict.exit_code else "but"
        return f"{self.verdict.value}, {joint} {MARK}"


# Both sides count the same tokens over almost the same time; more means that one of them is wrong.
MAX_RATE_DIFFERENCE = 0.02


def judge(facts: Facts) -> Judgement:
    """The one place where a run's worth is decided."""
    judged = _judge(facts)
    if not facts.limited:
        return judged
    limits = tuple(f"headroom: {reason}" for reason in facts.limited)
    # What makes a run bad comes first, and then the harness, which may have made it so.
    bad = judged.verdict.exit_code != 0
    reasons = (*judged.reasons, *limits) if bad else (*limits, *judged.reasons)
    return Judgement(judged.verdict, reasons, limited=True)


def _judge(facts: Facts) -> Judgement:
    failures = tuple(_failures(facts))
    if facts.interrupted:
        return Judgement(Verdict.INTERRUPTED, ("interrupted before the end", *failures))
    if failures:
        return Judgement(Verdict.FAILED, failures)
    if facts.check is not None and not facts.check.passed:
        return Judgement(Verdict.INVALID, (facts.check.sentence, *facts.check.problems))
    if facts.check is None and (facts.accuracy or facts.audit):
        return Judgement(Verdict.UNSCORED, (facts.unscored_reason or "not scored",))
    # LoadGen gives no verdict on accuracy, and a compliance test is judged by its answers.
    if not (facts.accuracy or facts.audit) and not facts.loadgen_valid:
        reasons = facts.invalid_reasons or ("LoadGen gave no reason",)
        return Judgement(Verdict.INVALID, tuple(f"LoadGen: {reason}" for reason in reasons))
    if facts.demonstration:
        return Judgement(Verdict.DEMONSTRATION, facts.unofficial_reasons)
    if facts.unofficial_reasons:
        return Judgement(Verdict.UNOFFICIAL, facts.unofficial_reasons)
    return Judgement(Verdict.VALID, ())


def _failures(facts: Facts) -> Iterator[str]:
    if facts.crash:
        yield f"the harness failed: {facts.crash.strip().splitlines()[-1]}"
    failed = {name: count for name, count in facts.failures.items() if count}
    if failed:
        parts = ", ".join(f"{count} {name}" for name, count in sorted(failed.items()))
        yield f"{sum(failed.values())} of {facts.issued} queries failed: {parts}"
    if facts.recorded != facts.issued:
        yield f"{facts.issued} queries were issued, {facts.recorded} are recorded"
    if not facts.loadgen_returned:
        yield "LoadGen was still running when the run ended"
    elif not facts.loadgen_complete:
        yield "LoadGen's logs have no end: is the disk full?"
    elif facts.loadgen_queries != facts.issued:
        yield f"LoadGen counts {facts.loadgen_queries} queries, the harness {facts.issued}"
    if facts.loadgen_errors:
        yield f"LoadGen reports {facts.loadgen_errors} errors in its detail log"
    difference = facts.token_rate_difference
    if difference is not None and not failed and difference > MAX_RATE_DIFFERENCE:
        yield f"LoadGen's token rate differs from the harness's by {difference:.1%}"
