"""Which recipe of recipes.toml is for an engine's version and platform, and the sizes beside them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from core.errors import SetupError
from server.installed import Engine
from server.recipes import Recipe, parse_version, recipes

FILE = Path(__file__).with_name("recipes.toml")


def choose(engine: Engine, platform: str) -> Recipe:
    """Of several, the one for the newest engines. Raises SetupError."""
    fitting = [
        recipe
        for recipe in recipes(FILE)
        if (recipe.engine, recipe.platform) == (engine.name, platform)
        and recipe.suits(engine.version)
    ]
    if not fitting:
        raise SetupError(
            f"{engine.name} {engine.version} on {platform}: none of {FILE.name} is for it; "
            "add one there, or give --engine-version"
        )
    return max(fitting, key=lambda recipe: parse_version(recipe.since))


def prefill(lengths: str, concurrency: int) -> int:
    """Tokens of SGLang's prefill; lengths: "ISL/OSL"."""
    fitting = [
        entry
        for entry in _data()["prefill"]
        if entry.get("lengths", lengths) == lengths
        and entry.get("above_concurrency", -1) < concurrency
    ]
    return int(fitting[-1]["tokens"])


def compilation() -> Mapping[str, str]:
    """vLLM's shapes where nobody says otherwise."""
    found: Mapping[str, str] = _data()["compilation"]
    return found


@cache
def _data() -> dict[str, Any]:
    with FILE.open("rb") as file:
        return tomllib.load(file)
