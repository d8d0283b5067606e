"""The result file of one point: the original's names, and what it forgot.

The original divides by eight GPUs whatever TP is, writes null without a word where there is no
baseline, and loses four counts to a slip in their names. Its names are kept; beside them stand what
was really used, where the answers were judged, and whether the figures count at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from backends.engines import Engines
from competition.gate import GateResult, validation_block
from competition.point import Measured
from competition.profile import Baseline, Profile
from competition.settings import Settings

PASSED, FAILED = "PASSED", "FAILED"
UNJUDGED = "accuracy was not measured: these figures say nothing about the answers"


def build_document(
    settings: Settings, engines: Engines, gate: GateResult | None, measured: Measured
) -> dict[str, Any]:
    """Everything of one point, for JSON. gate: None where the answers were not judged."""
    profile, info = settings.profile, engines.infos[0]
    return {
        "verdict": FAILED if measured.reasons else PASSED,
        "reasons": list(measured.reasons),
        "warnings": [
            *measured.warnings,
            *(() if gate else (UNJUDGED,)),
            *caveats(settings),
        ],
        "date": measured.started,
        "profile": profile.name,
        "isl": settings.lengths.isl,
        "osl": settings.lengths.osl,
        "conc": settings.concurrency,
        "tp": settings.tp,
        "gpus_used": settings.gpus_used,
        "engine": {"kind": info.kind, "version": info.version, "model": info.model},
        "benchmark_args": _arguments(settings, engines, measured),
        **measured.figures,
        **measured.power,
        **compare_baseline(settings, measured.figures),
        "accuracy": dict(gate.metrics) if gate else None,
        "accuracy_validation": validation_block(profile, gate) if gate else None,
        "prefix_cache_hit_rate": measured.engines.all.prefix_hit_rate,
        "engine_load": asdict(measured.engines.all),
        "client": measured.client,
        "failures": measured.failures,
    }


def _arguments(settings: Settings, engines: Engines, measured: Measured) -> dict[str, Any]:
    return {
        "model": settings.model,
        "backend": engines.infos[0].kind,
        "base_url": ",".join(settings.urls),
        "dataset_name": "random",
        "random_input_len": settings.lengths.isl,
        "random_output_len": settings.lengths.osl,
        "random_range_ratio": settings.range_ratio,
        "num_prompts": settings.n_prompts,
        "num_warmups": measured.warmups,
        "max_concurrency": settings.concurrency,
        "request_rate": "inf",
        "seed": settings.seed,
        # With the time in it where a cache could not be emptied.
        "prompt_seed": list(measured.seed),
    }


def baseline_of(settings: Settings) -> Baseline | None:
    return settings.profile.baselines.get((settings.lengths, settings.concurrency))


def compare_baseline(settings: Settings, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline's figures and the ratios to them; all null where there is none."""
    names, baseline = settings.profile.names, baseline_of(settings)
    if baseline is None:
        return dict.fromkeys(
            (names.block, names.tput_ratio, names.e2e_ratio, names.interactivity_ratio)
        )
    return {
        names.block: {
            names.median_e2e: baseline.median_e2e_ms,
            names.tput_per_gpu: baseline.tput_per_gpu,
            names.interactivity: baseline.interactivity,
        },
        names.tput_ratio: _ratio(figures["tput_per_gpu"], baseline.tput_per_gpu),
        names.e2e_ratio: _ratio(figures["median_e2el_ms"], baseline.median_e2e_ms),
        names.interactivity_ratio: _ratio(figures["interactivity"], baseline.interactivity),
    }


def _ratio(value: float | None, by: float) -> float | None:
    return None if value is None else value / by if by else 0.0


def caveats(settings: Settings) -> list[str]:
    """What a reader of the ratios has to know."""
    profile, found = settings.profile, []
    if baseline_of(settings) is None:
        found.append(
            f"no {profile.names.hardware} baseline for ISL/OSL {settings.lengths} at CONC "
            f"{settings.concurrency}: its fields are null"
        )
    elif (theirs := profile.names.range_ratio) != settings.range_ratio:
        found.append(_range_caveat(profile, theirs, settings.range_ratio))
    if settings.gpus_used < profile.gpus_per_node:
        found.append(
            f"tput_per_gpu divides by {profile.gpus_per_node} GPUs, as the competition does; "
            f"{settings.gpus_used} were used: see tput_per_used_gpu"
        )
    return found


def _range_caveat(profile: Profile, theirs: float, ours: float) -> str:
    return (
        f"the {profile.names.hardware} baseline was measured with a range ratio of {theirs:g}, so "
        f"with lengths of {(1 + theirs) / 2:g} of the stated ones on average, this with {ours:g}: "
        "the E2E ratio is not like for like (RANDOM_RANGE_RATIO sets it)"
    )
