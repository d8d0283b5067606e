"""A competition's rules as data: competition/profiles/NAME.toml, one dated file per rule set.

A profile says what is measured (pairs of ISL and OSL, their concurrencies, prompts for each), what
the results are compared with (baselines, and the names that the result file gives them), what the
answers must be worth (accuracy), and where results go (leaderboards).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from core.errors import ConfigError

FOLDER = Path(__file__).with_name("profiles")
DEFAULT = "gptoss-fp4-vllm-mi355x"


class Lengths(NamedTuple):
    """A pair of input and output lengths, in tokens."""

    isl: int
    osl: int

    def __str__(self) -> str:
        return f"{self.isl}/{self.osl}"

    @classmethod
    def parse(cls, text: str) -> Lengths:
        """Of "1024/8192". Raises ConfigError."""
        isl, slash, osl = text.partition("/")
        if not (slash and isl.isdecimal() and osl.isdecimal() and int(isl) and int(osl)):
            raise ConfigError(f"{text}: not a pair of lengths; give ISL/OSL, as in 1024/8192")
        return cls(int(isl), int(osl))


@dataclass(frozen=True, slots=True)
class Baseline:
    """Another machine's figures at one point."""

    median_e2e_ms: float
    interactivity: float  # tokens per second and user
    tput_per_gpu: float  # input and output tokens per second and GPU


@dataclass(frozen=True, slots=True)
class BaselineNames:
    """The baseline of a profile: what it is, and what a result file calls its figures."""

    id: str  # with its date, as "nv1126"
    hardware: str
    source: str
    date: str
    range_ratio: float  # that it was measured with
    block: str  # the object of the baseline's three figures
    median_e2e: str
    tput_per_gpu: str
    interactivity: str
    tput_ratio: str
    e2e_ratio: str
    interactivity_ratio: str


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What the answers must reach before any performance is measured."""

    kind: Literal["perplexity", "gsm8k"]
    # perplexity: the model's own figures; each must be at most its figure times `multiplier`.
    baselines: Mapping[str, float]
    multiplier: float
    # gsm8k: the share of right answers must be at least this.
    minimum: float
    # perplexity: SHA-256 of the text that the baselines belong to, blank lines as one space.
    text_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One pair of lengths: what is measured and where results go."""

    lengths: Lengths
    concurrencies: tuple[int, ...]
    prompts_per_concurrency: int
    leaderboard: str | None


@dataclass(frozen=True, slots=True)
class Profile:
    """One rule set."""

    name: str
    title: str
    date: str
    source: str
    engine: Literal["vllm", "sglang"]
    folder: str  # that holds its command lines
    model: str
    gpus_per_node: int  # that tput_per_gpu divides by, whatever TP is
    vocabulary: int  # ids from 0 that prompts are made of: no special tokens
    warmups_per_concurrency: int
    defaults: Mapping[str, str]  # environment variables of a single run, by name
    rules: Mapping[Lengths, Rule]
    names: BaselineNames
    baselines: Mapping[tuple[Lengths, int], Baseline]  # by concurrency
    accuracy: Accuracy

    def rule(self, lengths: Lengths) -> Rule:
        """Raises ConfigError that lists the pairs there are."""
        try:
            return self.rules[lengths]
        except KeyError:
            known = ", ".join(map(str, self.rules))
            raise ConfigError(
                f"ISL/OSL {lengths}: {self.name} has no such configuration; it has {known}"
            ) from None

    def prompts(self, lengths: Lengths, concurrency: int) -> int:
        """How many are measured at one point; for a pair of no rule, as for the first one."""
        rule = self.rules.get(lengths) or next(iter(self.rules.values()))
        return concurrency * rule.prompts_per_concurrency


def profile_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@cache
def load_profile(name: str) -> Profile:
    """The profile of that name. Raises ConfigError that lists those there are."""
    if name not in profile_names():
        raise ConfigError(f"--profile {name}: unknown; there are {', '.join(profile_names())}")
    return read_profile(FOLDER / f"{name}.toml")


def read_profile(path: Path) -> Profile:
    with path.open("rb") as file:
        data = tomllib.load(file)
    rules = {rule.lengths: rule for rule in map(_rule, data["rule"])}
    accuracy, about = data["accuracy"], data["profile"]
    return Profile(
        name=path.stem,
        **{key: about[key] for key in ("title", "date", "source", "engine", "folder", "model")},
        gpus_per_node=about["gpus_per_node"],
        vocabulary=about["vocabulary"],
        warmups_per_concurrency=about["warmups_per_concurrency"],
        defaults={key: str(value) for key, value in data["defaults"].items()},
        rules=rules,
        names=BaselineNames(**data["baseline"]),
        baselines=dict(map(_baseline, data["point"])),
        accuracy=Accuracy(
            kind=accuracy["kind"],
            baselines=accuracy.get("baselines", {}),
            multiplier=accuracy.get("multiplier", 1.0),
            minimum=accuracy.get("minimum", 0.0),
            text_sha256=accuracy.get("text_sha256", ""),
        ),
    )


def _rule(entry: dict[str, Any]) -> Rule:
    return Rule(
        lengths=Lengths.parse(entry["lengths"]),
        concurrencies=tuple(entry["concurrencies"]),
        prompts_per_concurrency=entry["prompts_per_concurrency"],
        leaderboard=entry.get("leaderboard"),
    )


def _baseline(entry: dict[str, Any]) -> tuple[tuple[Lengths, int], Baseline]:
    figures = {key: entry[key] for key in ("median_e2e_ms", "interactivity", "tput_per_gpu")}
    return (Lengths.parse(entry["lengths"]), entry["concurrency"]), Baseline(**figures)
