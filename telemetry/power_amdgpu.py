"""Energy of AMD GPUs, from what the kernel's amdgpu driver shows in /sys: no library, no rights.

In hwmon/hwmon*/ of a card's device the kernel documents power1_average and, since Linux 6.6,
power1_input: microwatts of the whole package, averaged or instantaneous; most GPUs have one of the
two. energy1_input, microjoules, is hwmon's counter, and is used where a driver has it.

GPUs are numbered by PCI address. That ROCm counts in the same order is an assumption; it does not
where HIP_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES choose, nor where a GPU is partitioned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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

VENDOR = "0x1002"
ENERGY, POWER = ("energy1_input",), ("power1_average", "power1_input")
MICRO = 1e-6


def open_amdgpu(gpus: Sequence[int], root: Path) -> PowerMeter:
    """root: where /sys lies. Raises NoGpus without AMD GPUs, ConfigError, and SetupError for a GPU
    that tells nothing."""
    devices = _devices(root)
    if not devices:
        raise NoGpus(f"no AMD GPU in {root / 'sys/class/drm'}")
    check_numbers(gpus, len(devices), "amdgpu")
    chosen = [(f"GPU {gpu} ({devices[gpu].name})", devices[gpu]) for gpu in gpus]
    counters = [_first(device, ENERGY) for _, device in chosen]
    if all(counters):
        return CounterMeter(
            [_sensor(name, file) for (name, _), file in zip(chosen, counters, strict=True) if file],
            f"amdgpu hwmon {ENERGY[0]}",
        )
    files = {name: _power(name, device) for name, device in chosen}
    names = " and ".join(sorted({file.name for file in files.values()}))
    sensors = [_sensor(name, file) for name, file in files.items()]
    return IntegratingMeter(sensors, f"amdgpu hwmon {names}, integrated")


def _devices(root: Path) -> list[Path]:
    """Of all AMD GPUs; the name of each is its PCI address."""
    cards = (root / "sys/class/drm").glob("card*")  # and their connectors, which have no vendor
    found = {(card / "device").resolve() for card in cards}
    return sorted((device for device in found if _text(device / "vendor") == VENDOR), key=str)


def _power(name: str, device: Path) -> Path:
    """Raises SetupError."""
    if (file := _first(device, POWER)) is None:
        raise SetupError(
            f"{name}: none of {', '.join(POWER)} can be read in {device}/hwmon/hwmon*: a container "
            "must see the machine's /sys; a virtual function may have no sensor"
        )
    return file


def _first(device: Path, names: Sequence[str]) -> Path | None:
    """The first file of these names that gives a value."""
    found = (file for name in names for file in sorted(device.glob(f"hwmon/hwmon*/{name}")))
    return next((file for file in found if isinstance(_sensor("", file).value(), float)), None)


def _sensor(name: str, file: Path) -> Sensor:
    def read() -> float:
        try:
            return int(file.read_text(encoding="ascii")) * MICRO
        except OSError as error:
            raise Unreadable(f"{file.name}: {error.strerror}") from None
        except ValueError as error:
            raise Unreadable(f"{file.name}: {error}") from None

    return Sensor(name, read)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
