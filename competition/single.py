"""One point from the accuracy test to the leaderboard: stop at the first thing that is not right."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from backends.engines import Engines, probe
from competition import console, payload, submit
from competition.console import Console
from competition.document import FAILED, build_document
from competition.files import write_json
from competition.gate import (
    GateResult,
    failure_text,
    run_gate,
    success_text,
    validation_block,
)
from competition.point import Measured, check_fit, check_place, measure_point
from competition.settings import Settings
from core.errors import ConfigError, RunError, SetupError

SUBMIT_TIMEOUT_S = 60.0
RATIO = "RANDOM_RANGE_RATIO"
FAILED_CODE, INTERRUPTED_CODE = 1, 130


class Mode(StrEnum):
    """What is run; each one runs what stands before it, too."""

    ACC = "acc"
    PERF = "perf"
    SUBMIT = "submit"


@dataclass(frozen=True, slots=True)
class Target:
    """Where results go. `override` is LB_URL_OVERRIDE; None: the leaderboard of the profile."""

    team: str
    override: str | None
    token: str | None
    dry_run: bool


class Refused(RunError):
    """The answers, the figures or the leaderboard say no: exit 1, as in the original."""

    exit_code = FAILED_CODE


def run_single(
    mode: Mode,
    settings: Settings,
    target: Target | None,
    environ: Mapping[str, str],
    out: Console,
) -> None:
    """All steps of one point. Raises HarnessError; Refused where something is not good enough."""
    out.warn(settings.warnings)
    out.show(console.configuration(settings))
    if target is not None:
        check_target(settings, target)
    check_place(settings)
    engines = open_server(settings)
    check_fit(settings, engines)
    gate = pass_gate(settings, engines, environ, out, accuracy_file(settings.result))
    if mode is Mode.ACC:
        out.show("Mode acc: the performance test is skipped.")
        return
    require_whole(gate, target)
    document = run_point(settings, engines, gate, out)
    if target is not None:
        submit_point(settings, document, target, out)
    out.show(f"Results saved in: {settings.result}.json")


def open_server(settings: Settings) -> Engines:
    """The engines at the settings' URLs. Raises SetupError that says how to start one."""
    try:
        engines = probe(settings.urls, "auto")
    except SetupError as error:
        start = f"{settings.profile.folder}/launch_{settings.profile.engine}_server.sh"
        raise SetupError(f"{error}; bash {start} starts one") from None
    return engines


def accuracy_file(result: Path) -> Path:
    return result.with_name(f"{result.name}.accuracy.json")


def pass_gate(
    settings: Settings,
    engines: Engines,
    environ: Mapping[str, str],
    out: Console,
    file: Path,
) -> GateResult:
    """Measure accuracy and write it down. Raises Refused when it is over a threshold."""
    out.show(console.block("Accuracy"))
    gate = run_gate(settings.profile, engines, environ, out.say)
    block = {"accuracy": dict(gate.metrics), "seconds": gate.seconds}
    write_json(file, block | {"accuracy_validation": validation_block(settings.profile, gate)})
    out.warn(gate.notes)
    if not gate.passed:
        raise Refused(failure_text(gate))
    out.show(success_text(gate))
    return gate


def require_whole(gate: GateResult, target: Target | None) -> None:
    """Only the competition's own test, all of it, may go to a leaderboard. Raises Refused."""
    if target is not None:
        _require_whole(gate.details, gate.notes)


def _require_whole(details: Mapping[str, Any], notes: Sequence[str]) -> None:
    if not (details["whole"] and details["comparable"]):
        raise Refused(
            "the accuracy test was not the competition's own, or only a part of it, so nothing can "
            f"be submitted with it: {'; '.join(notes)}"
        )


def run_point(
    settings: Settings, engines: Engines, gate: GateResult, out: Console
) -> dict[str, Any]:
    """Measure one point and write its result file. Raises Refused when it does not count."""
    measured, document = measure_and_store(settings, engines, gate, out)
    out.warn([text for text in document["warnings"] if text not in settings.warnings])
    if measured.figures["completed"]:
        out.show(console.point_card(document, settings))
    if measured.interrupted:
        raise KeyboardInterrupt
    if document["verdict"] == FAILED:
        raise Refused("Performance test FAILED!\n" + "\n".join(document["reasons"]))
    return document


def measure_and_store(
    settings: Settings, engines: Engines, gate: GateResult | None, out: Console
) -> tuple[Measured, dict[str, Any]]:
    """Measure one point and write its result file, whatever is in it. gate: None if not judged."""
    _set_aside(settings)
    measured = measure_point(settings, engines, out.say)
    document = build_document(settings, engines, gate, measured)
    write_json(settings.result / "result.json", document)  # stays when the next run takes the name
    write_json(result_file(settings), document)
    return measured, document


def _set_aside(settings: Settings) -> None:
    """An earlier run's files go with its folder: none must be taken for this run's, should it fail."""
    for file in (result_file(settings), submission_file(settings), receipt_file(settings)):
        if file.exists():
            try:
                settings.result.mkdir(exist_ok=True)
                file.replace(settings.result / file.name)
            except OSError as error:
                raise SetupError(f"{file}: cannot be set aside ({error.strerror})") from None


def result_file(settings: Settings) -> Path:
    return settings.result.with_name(f"{settings.result.name}.json")


def receipt_file(settings: Settings) -> Path:
    return settings.result.with_name(f"{settings.result.name}.receipt.json")


def submission_file(settings: Settings) -> Path:
    return settings.result.with_name(f"{settings.result.name}.submission.json")


def check_target(settings: Settings, target: Target) -> str:
    """The leaderboard's address, before anything is measured for it. Raises ConfigError."""
    payload.team_name(target.team)
    submit.checked_token(target.token)
    _check_rules(settings)
    return submit.leaderboard_url(settings.profile, settings.lengths, target.override)


def _check_rules(settings: Settings) -> None:
    """A leaderboard compares what was measured by one rule. Raises ConfigError."""
    profile, concurrency = settings.profile, settings.concurrency
    rule = profile.rule(settings.lengths)
    for name, value, wanted in (
        ("CONC", concurrency, rule.concurrencies),
        ("NUM_PROMPTS", settings.n_prompts, (profile.prompts(settings.lengths, concurrency),)),
        ("RANDOM_RANGE_RATIO", settings.range_ratio, (float(profile.defaults[RATIO]),)),
    ):
        if value not in wanted:
            allowed = " or ".join(map(str, wanted))
            raise ConfigError(
                f"submit: {name} {value}: by the rules it is {allowed}; perf takes others, too"
            )
    if settings.gpus_used > profile.gpus_per_node:
        raise ConfigError(
            f"submit: {settings.gpus_used} GPUs are used, the rules have {profile.gpus_per_node}"
        )


def submit_point(
    settings: Settings, document: Mapping[str, Any], target: Target, out: Console
) -> None:
    """Store the payload, send it, report what became of it. Raises Refused."""
    validation = document["accuracy_validation"]
    _require_whole(validation["details"], validation["notes"])
    url = check_target(settings, target)
    values = payload.payload_values(target.team, document, settings.profile)
    submission = submit.Submission(target.team, url, tuple(values), dict(document))
    submit.store(submission, submission_file(settings))
    if target.dry_run:
        out.show(submit.dry_run_text(submission))
        return
    send(submission, submission_file(settings), receipt_file(settings), target.token, out)


def send(
    submission: submit.Submission, stored: Path, receipt_path: Path, token: str | None, out: Console
) -> None:
    """Send a stored submission. Raises Refused or RunError, which name the file to send again."""
    again = f"it is stored: resubmit {stored}"
    about = {"team": submission.team, "url": submission.url}
    about["time"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    try:
        receipt = submit.send(submission, token, SUBMIT_TIMEOUT_S)
    except (submit.Unconfirmed, KeyboardInterrupt) as error:
        # The leaderboard may have it, and some keep everything that they get.
        write_json(receipt_path, about | {"accepted": None, "message": str(error)})
        out.say(f"whether {submission.url} has it is not known; look there; {again}")
        raise
    except RunError as error:
        raise RunError(f"{error}; {again}") from None
    if not receipt.accepted:
        raise Refused(f"the leaderboard refused the submission: {receipt.message}; {again}")
    write_json(receipt_path, about | asdict(receipt))
    out.show(f"{console.CHECK} Submitted to {submission.url}: {receipt.message}")
