"""The recommended flags and variables, chosen from recipes.toml by engine, version and GPU."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from core.errors import SetupError

FILE = Path(__file__).with_name("recipes.toml")


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    engine: str
    platform: str
    gpus: tuple[str, ...]  # parts of a GPU's name; none: any GPU of the platform
    since: str  # first engine version that it is for, "" for all
    before: str  # first one that it is no longer for, "" for none
    stream_interval: int | None
    flags: tuple[str, ...]  # "--name=value" or "--name"
    env: tuple[tuple[str, str], ...]
    source: str
    date: str
    warning: str

    def suits(self, version: str | None) -> bool:
        """An engine of unknown version is taken for a new one."""
        if version is None:
            return not self.before
        own = parse_version(version)
        return parse_version(self.since) <= own and not (
            self.before and own >= parse_version(self.before)
        )


@cache
def recipes(file: Path = FILE) -> tuple[Recipe, ...]:
    with file.open("rb") as data:
        return tuple(_recipe(entry) for entry in tomllib.load(data)["recipe"])


def choose(engine: str, version: str | None, platform: str, gpu: str | None) -> Recipe:
    """The one for this GPU, else the platform's; of several, the one for the newest engines."""
    fitting = [
        recipe
        for recipe in recipes()
        if (recipe.engine, recipe.platform) == (engine, platform)
        and recipe.suits(version)
        and (not recipe.gpus or any(name.upper() in (gpu or "").upper() for name in recipe.gpus))
    ]
    if not fitting:
        raise SetupError(f"no recipe for {engine} {version} on {platform} in {FILE.name}")
    return max(fitting, key=lambda recipe: (bool(recipe.gpus), parse_version(recipe.since)))


def parse_version(text: str) -> tuple[int, ...]:
    """(0, 22, 1) of '0.22.1.dev0+rocm'; () of ''."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(map(int, found[1].split("."))) if found else ()


def without(flags: Sequence[str], overridden: Sequence[str]) -> list[str]:
    """The flags that the user's own do not replace."""
    names = {_name(flag) for flag in overridden if flag.startswith("-")}
    return [flag for flag in flags if _name(flag) not in names]


def _name(flag: str) -> str:
    """'enable-x' of '--no-enable_x=1': the spellings that argparse takes for one flag."""
    return flag.partition("=")[0].replace("_", "-").lstrip("-").removeprefix("no-")


def _recipe(entry: dict[str, Any]) -> Recipe:
    return Recipe(
        name=entry["name"],
        engine=entry["engine"],
        platform=entry["platform"],
        gpus=tuple(entry.get("gpus", ())),
        since=entry.get("since", ""),
        before=entry.get("before", ""),
        stream_interval=entry.get("stream_interval"),
        flags=tuple(entry["flags"]),
        env=tuple(entry.get("env", {}).items()),
        source=entry["source"],
        date=entry["date"],
        warning=entry.get("warning", ""),
    )
