"""Variables that this engine version does not know. Engines pass over them nearly in silence and
run other kernels than the user believes."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from server.installed import known_variables
from server.plan import Plan
from server.recipes import parse_version

FILE = Path(__file__).with_name("variables.toml")


def unknown(plan: Plan, environ: Mapping[str, str]) -> list[str]:
    """One line for each variable with the engine's prefix that the engine does not know."""
    engine = plan.engine
    prefix = f"{engine.name.upper()}_"
    names = {name for name in environ if name.startswith(prefix)}
    for replica in plan.replicas:
        names |= {name for name, _ in replica.environment if name.startswith(prefix)}
        names -= set(replica.removed)
    known, moved = known_variables(engine), changed()
    lines = []
    for name in sorted(names):
        lost = not _within(moved[name], engine.version) if name in moved else False
        if name not in known if known else lost:
            hint = moved[name]["instead"] if name in moved else _alike(name, known or frozenset())
            lines.append(
                f"{engine.name} {engine.version} does not know {name}{hint and '; instead: '}{hint}"
            )
    return lines


@cache
def changed(file: Path = FILE) -> Mapping[str, Mapping[str, str]]:
    """The entries of variables.toml by name."""
    with file.open("rb") as data:
        return {entry["name"]: entry for entry in tomllib.load(data)["variable"]}


def _within(entry: Mapping[str, str], version: str | None) -> bool:
    """An engine of unknown version is taken for a new one."""
    if version is None:
        return "before" not in entry
    own = parse_version(version)
    before = parse_version(entry.get("before", ""))
    return parse_version(entry.get("since", "")) <= own and not (before and own >= before)


def _alike(name: str, known: frozenset[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"{close[0]}?" if close else ""
