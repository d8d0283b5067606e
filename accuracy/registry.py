"""Which scorer judges a dataset, and how often the dataset repeats each of its problems."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module

from accuracy.contract import Scorer
from core.errors import ConfigError

# Name -> scorer and repeats. Names are compared in lower case.
SCORERS = {
    "aime25": ("accuracy.aime25:score", 8),
    "gpqa_diamond": ("accuracy.gpqa_diamond:score", 5),
    "livecodebench_v6": ("accuracy.livecodebench_v6:score", 3),
}
# A dataset under another name is judged by the first of these that its name holds; it has 1 repeat.
FAMILIES = {"gpqa": "gpqa_diamond", "aime": "aime25", "livecodebench": "livecodebench_v6"}


def repeats(dataset: str) -> int:
    """How often each problem is asked; 1 for every name that the rules do not list."""
    return SCORERS[dataset.lower()][1] if dataset.lower() in SCORERS else 1


def scorer_name(dataset: str) -> str | None:
    """The key in SCORERS of what judges `dataset`, or None."""
    return next((name for part, name in FAMILIES.items() if part in dataset.lower()), None)


@cache
def scorer(dataset: str) -> Scorer:
    """Import and return what judges `dataset`; ConfigError where nothing does."""
    require_scorers([dataset])
    module, _, attribute = SCORERS[scorer_name(dataset) or ""][0].partition(":")
    found: Scorer = getattr(import_module(module), attribute)
    return found


def require_scorers(datasets: Iterable[str]) -> None:
    """Raise ConfigError naming every dataset that nothing judges."""
    unknown = sorted({name for name in datasets if scorer_name(name) is None})
    if unknown:
        raise ConfigError(
            f"no scorer for dataset {', '.join(map(repr, unknown))}; known are names that hold "
            f"{', '.join(FAMILIES)} (a new one: CONTRIBUTING.md)"
        )
