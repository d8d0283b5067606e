"""The energy of a point: that of GPUs of this machine, while the measured requests are under way.

Warm-ups are not in it, nor what the host uses. It is of the GPUs that are named, whoever keeps them
busy, and is divided by the tokens of the requests that succeeded. As in InferenceX's result files,
`avg_power_w` is the mean of one GPU and `joules_per_output_token` of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from competition.metrics import Figures
from competition.settings import Settings
from core.errors import RunError
from telemetry.power import Energy, PowerMeter

POWER, JOULES_PER_OUTPUT = "avg_power_w", "joules_per_output_token"
FIGURES = (POWER, "energy_j", JOULES_PER_OUTPUT, "joules_per_token", "power_source")


def read_energy(meter: PowerMeter | None) -> tuple[Energy | None, tuple[str, ...]]:
    """The energy; and why the point does not count, where what was asked for is missing."""
    if meter is None:
        return None, ()
    try:
        return meter.energy(), ()
    except RunError as error:
        return None, (f"energy was not measured: {error}",)


def power_figures(settings: Settings, energy: Energy | None, figures: Figures) -> dict[str, Any]:
    """For the result file: nothing where none was asked for, null where there is nothing to tell."""
    if not settings.power_gpus:
        return {}
    asked = {"power_gpus": list(settings.power_gpus), **dict.fromkeys(FIGURES)}
    if energy is None:
        return asked
    inputs, outputs = (int(figures[f"total_{what}_tokens"] or 0) for what in ("input", "output"))
    return asked | {
        POWER: energy.mean_w / len(settings.power_gpus),
        "energy_j": energy.total_j,
        JOULES_PER_OUTPUT: energy.total_j / outputs if outputs else None,
        "joules_per_token": energy.total_j / (inputs + outputs) if outputs else None,
        "power_source": energy.source,
    }


def power_caveats(settings: Settings) -> Iterator[str]:
    """What a reader of the joules has to know."""
    count, used = len(settings.power_gpus), settings.gpus_used
    if count and count != used:
        yield (
            f"the energy is that of {count} GPUs, which --power names; the server uses {used}: joules "
            "per token are not the server's"
        )
