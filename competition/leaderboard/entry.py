"""One submission, validated: what comes in is text from strangers.

Both forms, the bare list of values and the whole result document, end in the same list and pass the
same checks.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from competition.leaderboard.checks import (
    RANGES,
    check_accuracy,
    check_concurrency,
    check_ratios,
    check_run,
    count,
    in_range,
    line,
    moment,
    parse,
)
from competition.payload import as_number, as_whole, fields, payload_values, team_name
from competition.profile import Baseline, Lengths, Profile
from core.errors import ConfigError

ENGINES = ("vllm", "sglang")
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the leaderboard keeps of a submission."""

    team: str
    profile: str
    lengths: Lengths
    concurrency: int
    median_e2e_ms: float
    tput_per_gpu: float
    interactivity: float
    accuracy: Mapping[str, float]
    date: datetime  # of the measurement where that is known, else of the submission
    engine: str = UNKNOWN  # one of ENGINES, or UNKNOWN
    engine_version: str = ""
    tp: int | None = None
    gpus_used: int | None = None

    @property
    def key(self) -> str:
        return team_key(self.team)

    @property
    def digest(self) -> str:
        """The same for the same measurement, in whichever form it came: its figures identify it."""
        figures = [self.median_e2e_ms, self.tput_per_gpu, self.interactivity]
        point = [self.key, self.profile, *self.lengths, self.concurrency]
        text = json.dumps([point, figures, sorted(self.accuracy.items())])
        return hashlib.sha256(text.encode()).hexdigest()

    def baseline(self, profile: Profile) -> Baseline | None:
        return profile.baselines.get((self.lengths, self.concurrency))


def team_key(team: str) -> str:
    """The same for names that look the same but for case, width and spaces."""
    return " ".join(unicodedata.normalize("NFKC", team).casefold().split())


def from_values(
    values: Sequence[object], profile: Profile, lengths: Lengths, now: datetime
) -> Entry:
    """Of the list that the competition's program sends. Raises ConfigError."""
    names = fields(profile)
    if len(values) != len(names):
        raise ConfigError(f"{len(values)} values: this leaderboard takes {len(names)}: {names}")
    team = team_name(values[0])
    numbers = {
        name: as_number(name, value) for name, value in zip(names[1:], values[1:], strict=True)
    }
    numbers["concurrency"] = as_whole("concurrency", values[1])
    check_concurrency(int(numbers["concurrency"]), profile, lengths)
    for name in RANGES.keys() & numbers.keys():
        in_range(name, numbers[name])
    check_ratios(numbers)
    accuracy = {name: numbers[name] for name in fields(profile)[11:]}
    check_accuracy(accuracy, profile)
    return Entry(
        team=team,
        profile=profile.name,
        lengths=lengths,
        concurrency=int(numbers["concurrency"]),
        median_e2e_ms=numbers["median_e2e_ms"],
        tput_per_gpu=numbers["tput_per_gpu"],
        interactivity=numbers["interactivity"],
        accuracy=accuracy,
        date=now,
    )


def from_document(
    team: object, text: object, profile: Profile, now: datetime, only: Lengths | None = None
) -> Entry:
    """Of a result file's text. only: the pair that it must be of. Raises ConfigError."""
    document = parse(text)
    if document.get("profile") != profile.name:
        raise ConfigError(
            f"profile: {line('profile', document.get('profile'))}; "
            f"this leaderboard is for {profile.name}"
        )
    lengths = Lengths(*(as_whole(name, document.get(name)) for name in ("isl", "osl")))
    if only not in (None, lengths):
        raise ConfigError(f"ISL/OSL {lengths}: this leaderboard is for {only}")
    entry = from_values(payload_values(team_name(team), document, profile), profile, lengths, now)
    check_run(document, profile, lengths)
    engine = document.get("engine")
    about = engine if isinstance(engine, dict) else {}
    kind = about.get("kind")
    return replace(
        entry,
        date=moment(document.get("date"), now),
        engine=kind if kind in ENGINES else UNKNOWN,
        engine_version=line("engine.version", about.get("version")),
        tp=count("tp", document.get("tp")),
        gpus_used=count("gpus_used", document.get("gpus_used")),
    )
