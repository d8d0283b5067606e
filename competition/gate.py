"""The accuracy gate: no performance is measured unless the answers are worth it.

Perplexity (the competition's first stage) must be at most a figure, the share of right answers to
GSM8K (the second) at least one; exactly at the limit passes. The texts of the verdict are those of
the competition's program.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backends.engines import Engines
from competition import gsm8k, perplexity_gate
from competition.payload import ACCURACIES
from competition.perplexity_gate import percent
from competition.profile import Profile

MEASURES = {"perplexity": perplexity_gate.measure, "gsm8k": gsm8k.measure}
(GSM8K,) = ACCURACIES["gsm8k"]


@dataclass(frozen=True, slots=True)
class Limit:
    """One compared figure: of perplexity the limit is the most, of gsm8k the least it may be."""

    name: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True, slots=True)
class GateResult:
    """What was measured and whether it is enough."""

    kind: str
    passed: bool
    metrics: dict[str, float]
    limits: tuple[Limit, ...]
    notes: tuple[str, ...]
    seconds: float
    # `whole` (all was asked) and `comparable` (as the baseline was), and what the kind has to tell.
    details: dict[str, Any]


def run_gate(
    profile: Profile, engines: Engines, environ: Mapping[str, str], say: Callable[[str], None]
) -> GateResult:
    """Measure and compare. Raises RunError when a request fails, ConfigError, SetupError."""
    begun = time.monotonic()
    kind = profile.accuracy.kind
    measured = MEASURES[kind](profile, engines, environ, say)
    limits = tuple(_limits(profile, measured.metrics))
    return GateResult(
        kind=kind,
        passed=all(limit.passed for limit in limits),
        metrics=measured.metrics,
        limits=limits,
        notes=measured.notes,
        seconds=time.monotonic() - begun,
        details=measured.details | {"multiplier": profile.accuracy.multiplier},
    )


def _limits(profile: Profile, metrics: Mapping[str, float]) -> Iterator[Limit]:
    accuracy = profile.accuracy
    if accuracy.kind == "gsm8k":
        value = metrics[GSM8K]
        yield Limit(GSM8K, value, accuracy.minimum, value >= accuracy.minimum)
        return
    for name, baseline in accuracy.baselines.items():
        value, limit = metrics[name], baseline * accuracy.multiplier
        yield Limit(name, value, limit, value <= limit)


def validation_block(profile: Profile, result: GateResult) -> dict[str, Any]:
    """The result file's `accuracy_validation`: the original's keys, then what it does not tell."""
    accuracy = profile.accuracy
    compared: dict[str, Any]
    if result.kind == "gsm8k":
        names = ("baseline_gsm8k_metric", "minimum_accepted")
        compared = dict.fromkeys(names, accuracy.minimum) | {"gsm8k_tol": 0.0}
    else:
        compared = {
            "baselines": dict(accuracy.baselines),
            "threshold_multiplier": accuracy.multiplier,
            "thresholds": {limit.name: limit.limit for limit in result.limits},
        }
    return {
        "status": "PASSED" if result.passed else "FAILED",
        **compared,
        "seconds": result.seconds,
        "notes": list(result.notes),
        "details": result.details,
    }


def failure_text(result: GateResult) -> str:
    """Of a result that has not passed."""
    sign = "<" if result.kind == "gsm8k" else ">"
    missed = (limit for limit in result.limits if not limit.passed)
    if result.kind == "gsm8k":
        why = "The share of right answers is below the minimum."
    else:
        over = percent(result.details["multiplier"])
        why = f"One or more metrics exceed the baseline by over {over} %."
    return "\n".join(
        [
            "ERROR: Accuracy validation FAILED!",
            *(f"{limit.name}: {limit.value:.4f} {sign} {limit.limit:.4f}" for limit in missed),
            why,
            "The performance benchmark will not run.",
            "Please investigate the accuracy before going on.",
        ]
    )


def success_text(result: GateResult) -> str:
    """Of a result that has passed: a line for each metric."""
    sign = ">=" if result.kind == "gsm8k" else "<="
    lines = (f"{limit.name}: {limit.value:.4f} {sign} {limit.limit:.4f}" for limit in result.limits)
    return "\n".join(f"\N{CHECK MARK} {line}" for line in lines)
