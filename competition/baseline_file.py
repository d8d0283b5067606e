"""A baseline file: other figures for a profile to be compared with, under names of its own id.

    [baseline]          id, hardware, source, date, range_ratio
    [[point]]           lengths, concurrency, median_e2e_ms, interactivity, tput_per_gpu

The result file then has `baseline_ID` and `tput_per_gpu_ratio_vs_ID`, so that nobody takes a ratio
to one machine for a ratio to another.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from competition.inferencex import ImportedPoint
from competition.profile import Baseline, BaselineNames, Lengths, Profile
from core.errors import ConfigError

ID = re.compile(r"[A-Za-z0-9_]+")
ABOUT = ("id", "hardware", "source", "date")
FIGURES = ("median_e2e_ms", "interactivity", "tput_per_gpu")
KNOWN = ("tp", "ep", "framework", "precision", "speculation", "image", "output_tput_per_gpu")
EXTRAS = (*KNOWN, "avg_power_w")  # told, not compared

Baselines = dict[tuple[Lengths, int], Baseline]


def to_toml(
    points: Sequence[ImportedPoint],
    *,
    id: str,
    source: str,
    date: str,
    hardware: str,
    range_ratio: float,
) -> str:
    """The file's text. Raises ConfigError for an id that cannot be part of a name."""
    about = dict(zip(ABOUT, (_id(id), hardware, source, date), strict=True))
    lines = ["[baseline]", *(f"{key} = {_value(value)}" for key, value in about.items())]
    lines.append(f"range_ratio = {float(range_ratio)}")
    for point in points:
        lines += ["", "[[point]]", f'lengths = "{point.lengths}"']
        for key in ("concurrency", *FIGURES, *EXTRAS):
            if (value := getattr(point, key)) not in (None, ""):
                lines.append(f"{key} = {_value(value)}")
    return "\n".join([*lines, ""])


def read_baselines(path: Path) -> tuple[BaselineNames, Baselines]:
    """Raises ConfigError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--baseline {path}: not readable as TOML ({error})") from None
    try:
        about, entries = data["baseline"], data["point"]
        names = _names({key: str(about[key]) for key in ABOUT}, float(about["range_ratio"]))
        found: Baselines = {}
        for entry in entries:
            key = (_lengths(entry["lengths"]), int(entry["concurrency"]))
            if key in found:
                raise ConfigError(f"{key[0]} at {key[1]} stands there twice")
            found[key] = Baseline(**{name: _positive(name, entry[name]) for name in FIGURES})
    except KeyError as error:
        raise ConfigError(f"--baseline {path}: has no {error.args[0]}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"--baseline {path}: not a baseline file ({error})") from None
    except ConfigError as error:
        raise ConfigError(f"--baseline {path}: {error}") from None
    return names, found


def with_baselines(profile: Profile, path: Path) -> Profile:
    """The profile with the file's baselines in place of its own. Raises ConfigError."""
    names, found = read_baselines(path)
    points = {(rule.lengths, n) for rule in profile.rules.values() for n in rule.concurrencies}
    if not points & found.keys():
        there = ", ".join(f"{lengths} at {n}" for lengths, n in sorted(found))
        raise ConfigError(f"--baseline {path}: no point of {profile.name} is in it; it has {there}")
    return replace(profile, names=names, baselines=found)


def _names(about: dict[str, str], range_ratio: float) -> BaselineNames:
    id = _id(about["id"])
    return BaselineNames(
        **about,
        range_ratio=range_ratio,
        block=f"baseline_{id}",
        median_e2e=f"baseline_median_e2e_{id}",
        tput_per_gpu=f"baseline_tput_pergpu_{id}",
        interactivity=f"baseline_median_intvty_{id}",
        tput_ratio=f"tput_per_gpu_ratio_vs_{id}",
        e2e_ratio=f"median_e2e_ratio_vs_{id}",
        interactivity_ratio=f"interactivity_ratio_vs_{id}",
    )


def _id(text: str) -> str:
    if not ID.fullmatch(text):
        raise ConfigError(f"id {text!r}: becomes part of names; use letters, digits and _")
    return text


def _lengths(value: Any) -> Lengths:
    if not isinstance(value, str):
        raise ConfigError(f'lengths {value}: not text; give "ISL/OSL", as in "1024/8192"')
    return Lengths.parse(value)


def _positive(name: str, value: Any) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise ConfigError(f"{name} {value} is not above 0: ratios divide by it")
    return number


def _value(value: str | float) -> str:
    """A TOML value; JSON's strings are TOML's where nothing is escaped as two halves."""
    return json.dumps(value, ensure_ascii=False)
