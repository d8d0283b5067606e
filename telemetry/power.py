"""The energy that GPUs of this machine use during a block:

    with open_meter([0, 1]) as meter:
        work()
    meter.energy().total_j

It is the GPUs' own figure, of the whole board or package with its memory; what the host and its
cooling use is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from core.errors import ConfigError, SetupError
from telemetry.power_amdgpu import open_amdgpu
from telemetry.power_meter import Energy, NoGpus, PowerMeter

__all__ = ["Energy", "PowerMeter", "open_meter", "parse_gpus"]

GPUS = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?", re.ASCII)
NO_NVML = "nvidia-ml-py, for NVIDIA's, is not installed (./setup.sh --competition installs it)"


def open_meter(gpus: Sequence[int], root: Path = Path("/")) -> PowerMeter:
    """A meter of these GPUs, for one block. Numbers: power_nvml.py, power_amdgpu.py.

    Every GPU is read once here. Raises ConfigError for a GPU that is not there, and SetupError where
    this machine has none, or one tells nothing of its power.
    """
    reasons = []
    try:
        from telemetry.power_nvml import open_nvml

        return open_nvml(gpus)
    except ImportError:
        reasons.append(NO_NVML)
    except NoGpus as why:
        reasons.append(str(why))
    try:
        return open_amdgpu(gpus, root)
    except NoGpus as why:
        reasons.append(str(why))
    raise SetupError(f"no GPU whose power can be measured: {'; '.join(reasons)}")


def parse_gpus(flag: str, text: str) -> tuple[int, ...]:
    """Numbers and ranges, as 0,2 or 0-7, each once. Raises ConfigError."""
    found: dict[int, None] = {}
    for word in text.split(","):
        if (match := GPUS.fullmatch(word.strip())) is None:
            raise ConfigError(f"{flag} {text}: give numbers of GPUs, such as 0 or 0,2 or 0-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigError(f"{flag} {text}: {word.strip()} ends before it begins")
        found |= dict.fromkeys(range(first, last + 1))
    return tuple(found)
