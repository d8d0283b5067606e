"""All concurrencies of one pair of lengths: a folder, a summary, and no step that stops the others.

Accuracy does not depend on the concurrency, so it is measured once, before the first point; over a
threshold nothing else is run. The original measures it again for each.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from competition import console
from competition.console import Console
from competition.document import PASSED
from competition.files import read_json, write_json
from competition.gate import GateResult
from competition.point import check_fit
from competition.profile import Lengths
from competition.settings import Settings
from competition.single import (
    FAILED_CODE,
    INTERRUPTED_CODE,
    Mode,
    Refused,
    Target,
    check_target,
    open_server,
    pass_gate,
    receipt_file,
    require_whole,
    result_file,
    run_point,
    submission_file,
    submit_point,
)
from competition.summary import State, Step, Summary
from core.errors import ConfigError, HarnessError, SetupError

ABOUT = "batch.json"
MINUTES = "15-20"  # of one point with the real model, by the competition's guide


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch's orders."""

    mode: Mode
    lengths: Lengths
    settings: Settings
    target: Target | None
    folder: Path
    resumed: bool

    @property
    def concurrencies(self) -> tuple[int, ...]:
        return self.settings.profile.rule(self.lengths).concurrencies

    def point(self, concurrency: int) -> Settings:
        return self.settings.at(self.lengths, concurrency, self.folder)

    def about(self) -> dict[str, Any]:
        """What must be the same when the batch is gone on with."""
        settings = self.settings
        return {
            "profile": settings.profile.name,
            "isl": self.lengths.isl,
            "osl": self.lengths.osl,
            "model": settings.model,
            "tp": settings.tp,
            "range_ratio": settings.range_ratio,
            "gpus_used": settings.gpus_used,
            "seed": settings.seed,
            "baseline": settings.profile.names.id,
        }


def new_folder(lengths: Lengths) -> Path:
    """batch_isl.._osl.._<local time> in the working folder."""
    name = f"batch_isl{lengths.isl}_osl{lengths.osl}_{time.strftime('%Y%m%d_%H%M%S')}"
    folder, number = Path(name), 1
    while folder.exists():
        number += 1
        folder = Path(f"{name}-{number}")
    return folder


@dataclass(frozen=True, slots=True)
class Ended:
    """code: 0 when every step has passed, else 1, after Ctrl-C 130."""

    code: int
    go_on: bool  # other batches may follow: only steps have failed, not what all of them need


def run_batch(batch: Batch, environ: Mapping[str, str], out: Console) -> Ended:
    """Run what is missing.

    Raises HarnessError for what stands in the way of all steps.
    """
    out.warn(batch.settings.warnings)
    leaderboard = None
    if batch.target is not None:
        leaderboard = check_target(batch.point(batch.concurrencies[0]), batch.target)
    team = batch.target.team if batch.target else None
    header = (batch.lengths, str(batch.mode), batch.concurrencies, team, leaderboard)
    out.show(console.batch_header(*header) + "\n")
    _open_folder(batch)
    out.show(f"Results directory: {batch.folder}\n")
    summary = Summary(batch.folder, batch.lengths, str(batch.mode), batch.concurrencies)
    go_on = False
    try:
        code = _run_steps(batch, summary, environ, out)
        go_on = True
    except HarnessError as error:  # mostly accuracy; nothing else is run
        out.error(error)
        out.show("\n".join(line for step in summary.steps for line in step.lines()))
        code = error.exit_code
    except KeyboardInterrupt:
        out.say(f"interrupted; to go on: {batch.mode} --resume {batch.folder}")
        code = INTERRUPTED_CODE
    out.show("\n" + summary.tail())
    return Ended(code, go_on)


def _open_folder(batch: Batch) -> None:
    file = batch.folder / ABOUT
    if batch.resumed:
        found, wanted = read_json(file), batch.about()
        for name, value in wanted.items():
            if found.get(name) != value:
                raise ConfigError(
                    f"--resume {batch.folder}: it was begun with {name} {found.get(name)}, now it "
                    f"is {value}: set it as it was, or begin a new batch"
                )
        return
    try:
        batch.folder.mkdir(mode=0o755, parents=True)
    except OSError as error:
        raise SetupError(f"{batch.folder}: cannot be made ({error.strerror})") from None
    write_json(file, batch.about() | {"mode": str(batch.mode)})


def _run_steps(batch: Batch, summary: Summary, environ: Mapping[str, str], out: Console) -> int:
    missing = []
    for step in summary.steps:
        if batch.resumed and _is_done(batch, batch.point(step.concurrency)):
            summary.change(step, "PASSED", kept=True)
            out.show(step.lines()[0])
        else:
            missing.append(step)
    if missing:
        out.say(f"{len(missing)} to run; with the real model about {MINUTES} minutes each")
        gate = _gate(batch, summary, missing, environ, out)
        for step in missing:
            _run_step(batch, summary, step, gate, out)
    return FAILED_CODE if summary.failed else 0


def _is_done(batch: Batch, settings: Settings) -> bool:
    """Whether an earlier run of this batch has brought this point as far as this one wants it."""
    if batch.mode is Mode.ACC:
        return False
    if batch.target is not None and not _has_receipt(settings, batch.target, accepted=True):
        return False
    return _result(settings) is not None


def _has_receipt(settings: Settings, target: Target, *, accepted: bool) -> bool:
    """Whether it was sent to that leaderboard for that team, and accepted or never answered for."""
    file = receipt_file(settings)
    found = read_json(file) if file.exists() else {}
    url = check_target(settings, target)
    same = (found.get("team"), found.get("url")) == (target.team, url)
    return same and found.get("accepted") is (True if accepted else None)


def _result(settings: Settings) -> dict[str, Any] | None:
    """The point's result, where there is one that counts."""
    file = result_file(settings)
    document = read_json(file) if file.exists() else {}
    return document if document.get("verdict") == PASSED else None


def _gate(
    batch: Batch,
    summary: Summary,
    missing: list[Step],
    environ: Mapping[str, str],
    out: Console,
) -> GateResult:
    """Accuracy, once for all steps. Over a threshold all of them have failed."""
    began, log = time.monotonic(), batch.folder / "accuracy.log"
    summary.change(missing[0], "RUNNING")
    try:
        with out.logged(log):
            settings = batch.point(missing[0].concurrency)
            engines = open_server(settings)
            check_fit(settings, engines)
            gate = pass_gate(settings, engines, environ, out, batch.folder / "accuracy.json")
            require_whole(gate, batch.target)
            return gate
    except KeyboardInterrupt:
        summary.change(missing[0], "INTERRUPTED", seconds=time.monotonic() - began)
        raise
    except HarnessError as error:
        seconds = time.monotonic() - began
        for step in missing:
            summary.change(step, "FAILED", seconds=seconds, reason=str(error), log=str(log))
        raise


def _run_step(batch: Batch, summary: Summary, step: Step, gate: GateResult, out: Console) -> None:
    """One point. Its failure is told and noted, and the next one follows."""
    settings = batch.point(step.concurrency)
    out.show("\n" + console.block(f"Testing CONC={step.concurrency}"))
    began, log = time.monotonic(), settings.result.with_name(f"{settings.result.name}.log")
    summary.change(step, "RUNNING")

    def end(passed: bool, reason: str = "", interrupted: bool = False) -> None:
        seconds = time.monotonic() - began
        if passed:
            summary.change(step, "PASSED", seconds=seconds)
        else:
            state: State = "INTERRUPTED" if interrupted else "FAILED"
            summary.change(step, state, seconds=seconds, reason=reason, log=str(log))
        out.show("\n".join(step.lines()))

    try:
        with out.logged(log):
            _measure(batch, settings, gate, out)
    except HarnessError as error:
        end(False, str(error))
    except KeyboardInterrupt:
        end(False, "interrupted", interrupted=True)
        raise
    else:
        end(True)


def _measure(batch: Batch, settings: Settings, gate: GateResult, out: Console) -> None:
    if batch.mode is Mode.ACC:
        return  # accuracy has passed, and it does not depend on CONC
    document = _result(settings) if batch.resumed else None
    if document is None:
        document = run_point(settings, open_server(settings), gate, out)
    else:
        out.say("measured before: only to be submitted")
    if batch.target is not None:
        if _has_receipt(settings, batch.target, accepted=False):
            raise Refused(
                "an earlier submission was never answered for: look at the leaderboard; if it is not "
                f"there: resubmit {submission_file(settings)}"
            )
        submit_point(settings, document, batch.target, out)
