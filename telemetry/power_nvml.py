"""Energy of NVIDIA GPUs, through NVML: a counter of millijoules (Volta and newer), else power.

The counter grows about every 100 ms, so that a block of a second is known to some 10 %, one of a
minute to some 0.2 %. Numbers are NVML's, as `nvidia-smi` shows them, by PCI address:
CUDA_VISIBLE_DEVICES does not change them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pynvml

from core.errors import SetupError
from telemetry.power_integral import IntegratingMeter
from telemetry.power_meter import (
    CounterMeter,
    NoGpus,
    PowerMeter,
    Sensor,
    Unreadable,
    check_numbers,
)

MILLI = 1e-3


def open_nvml(gpus: Sequence[int]) -> PowerMeter:
    """Raises NoGpus without NVIDIA GPUs, ConfigError, and SetupError for a GPU that tells nothing.

    NVML stays open until the process ends: meters come and go.
    """
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        raise NoGpus(f"NVIDIA's NVML says {error}") from None
    if not count:
        raise NoGpus("NVIDIA's NVML finds no GPU")
    check_numbers(gpus, count, "NVML")
    counters = [_sensor(gpu, pynvml.nvmlDeviceGetTotalEnergyConsumption) for gpu in gpus]
    if _refusal(counters) is None:
        return CounterMeter(counters, "NVML energy counter")
    powers = [_sensor(gpu, pynvml.nvmlDeviceGetPowerUsage) for gpu in gpus]
    if (why := _refusal(powers)) is not None:
        raise SetupError(
            f"{why}, so that its energy cannot be measured: does nvidia-smi show its power?"
        )
    return IntegratingMeter(powers, "NVML power, integrated")


def _sensor(gpu: int, ask: Callable[[Any], int]) -> Sensor:
    def read() -> float:
        try:
            return ask(pynvml.nvmlDeviceGetHandleByIndex(gpu)) * MILLI
        except pynvml.NVMLError as error:
            raise Unreadable(f"NVML says {error}") from None

    return Sensor(f"GPU {gpu}", read)


def _refusal(sensors: Sequence[Sensor]) -> str | None:
    """Why one of them cannot be used."""
    for sensor in sensors:
        if isinstance(value := sensor.value(), Unreadable):
            return f"{sensor.name}: {value}"
    return None
