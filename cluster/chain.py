"""What a job measures, in order: runs of run_mlperf.py, sweeps of the competition.

measure:                                          submission: [offline, server]
  - {scenario: offline, kind: accuracy}             is short for accuracy, performance, TEST07 and
  - {scenario: offline}                             TEST09 of each scenario
  - {scenario: server, flags: [--gate]}
  - {sweep: 1024/1024, conc: "4,8,16"}
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cluster.fields import NAME, Fields
from core.audit import AUDITS
from core.errors import ConfigError
from core.scenario import Scenario

KINDS = ("accuracy", "performance", *AUDITS)
RUN = "run_mlperf.py"
SCENARIOS = tuple(scenario.value for scenario in Scenario)
LENGTHS, NUMBERS = r"\d+/\d+(,\d+/\d+)*", r"\d+(,\d+)*"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One command over all replicas, to which `--server-url` and their list are added."""

    name: str
    words: tuple[str, ...]  # after the interpreter; {folder} is the job's
    again: tuple[str, ...]  # instead, where its folder is there already; empty: the same
    folder: str  # of its results, below the job's
    summary: str  # the file of that folder which tells how it went
    needs: tuple[str, ...]  # measurements that must have passed


@dataclass(frozen=True, slots=True)
class _Shared:
    """What a job says once for all its runs."""

    datasets: dict[str, Path]
    flags: tuple[str, ...]
    user_conf: Path | None


def read_chain(fields: Fields) -> tuple[tuple[Measurement, ...], tuple[Path, ...]]:
    """The measurements of a job's file, and the files that they read. Raises ConfigError."""
    shared = _Shared(
        _datasets(fields.section("datasets")), fields.words("flags"), fields.path("user_conf")
    )
    listed = [
        fields.nested(f"measure {n}", item) for n, item in enumerate(fields.items("measure"), 1)
    ]
    found = [_one(item, shared) for item in listed]
    for scenario in fields.words("submission"):
        if scenario not in SCENARIOS:
            raise fields.error("submission", scenario, f"name some of {', '.join(SCENARIOS)}")
        found += [_run(fields, scenario, kind, shared, ()) for kind in KINDS]
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"{fields.where}: measured twice: {', '.join(sorted(twice))}: give one of them a name"
        )
    if not found:
        raise ConfigError(f"{fields.where}: nothing to measure: set measure, or submission")
    files = {*shared.datasets.values(), *([shared.user_conf] if shared.user_conf else [])}
    return _with_needs(found, fields.truth("require_accuracy", True)), tuple(sorted(files))


def _datasets(fields: Fields) -> dict[str, Path]:
    found = {kind: path for kind in KINDS if (path := fields.path(kind)) is not None}
    fields.end()
    if "performance" in found:
        found.setdefault("TEST09", found["performance"])  # the test is about that very set
    return found


def _one(fields: Fields, shared: _Shared) -> Measurement:
    lengths = fields.maybe("sweep", LENGTHS)
    if lengths is not None:
        found = _sweep(fields, lengths)
    else:
        scenario = fields.choice("scenario", SCENARIOS)
        kind = fields.choice("kind", KINDS, "performance")
        name = fields.maybe("name", NAME)
        found = _run(fields, scenario, kind, shared, fields.words("flags"), name)
    fields.end()
    return found


def _run(
    fields: Fields,
    scenario: str,
    kind: str,
    shared: _Shared,
    flags: tuple[str, ...],
    name: str | None = None,
) -> Measurement:
    """name: of its own folder, where a job has the same scenario and kind several times."""
    words = [RUN, "--mode", scenario]
    words += ["--output-dir", "{folder}" + (f"/{name}" if name else "")]
    words += {"performance": [], "accuracy": ["--accuracy"]}.get(kind, ["--compliance", kind])
    if shared.datasets:
        if kind not in shared.datasets:
            raise ConfigError(f"{fields.where}: datasets: {kind}: is missing; {scenario} needs it")
        words += ["--input-file", str(shared.datasets[kind])]
    elif kind in AUDITS:
        raise ConfigError(f"{fields.where}: datasets: {kind}: is missing: no demonstration has it")
    if shared.user_conf:
        words += ["--user-conf", str(shared.user_conf)]
    below = "/performance/run_1" if kind in AUDITS else ""
    words += [*shared.flags, *flags]
    return Measurement(
        name=name or f"{scenario}-{kind}",
        words=tuple(words),
        again=(),
        folder=f"{name}/{scenario}/{kind}{below}" if name else f"{scenario}/{kind}{below}",
        summary="summary.json",
        needs=(),
    )


def _sweep(fields: Fields, lengths: str) -> Measurement:
    usual = "sweep-" + lengths.replace("/", "x").replace(",", "-")
    name = fields.maybe("name", NAME) or usual
    conc = fields.maybe("conc", NUMBERS)
    words = ["-m", "competition", "sweep", "--tp", "1", "--lengths", lengths]
    words += ["--conc", conc] if conc else []
    words += fields.words("flags")
    return Measurement(
        name=name,
        words=(*words, "--output", f"{{folder}}/{name}"),
        again=(*words, "--resume", f"{{folder}}/{name}"),
        folder=name,
        summary="sweep.json",
        needs=(),
    )


def _with_needs(found: list[Measurement], accuracy: bool) -> tuple[Measurement, ...]:
    """A number counts only behind a passed accuracy, where the chain has one for the scenario."""
    done: list[Measurement] = []
    scored: dict[str, str] = {}  # scenario -> its accuracy run
    for one in found:
        scenario = one.words[2] if one.words[0] == RUN else ""
        needs = (scored[scenario],) if accuracy and scenario in scored else ()
        done.append(replace(one, needs=needs))
        if "--accuracy" in one.words:
            scored[scenario] = one.name
    return tuple(done)
