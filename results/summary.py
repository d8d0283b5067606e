"""summary.json: the numbers of a run and its verdict, from its records and LoadGen's log."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from core.account import ProcessAccount, WorkerAccount
from core.check import Check
from core.config import RunConfig
from core.outcome import Outcome
from results.balance import Balance, balance
from results.engine_rules import EngineFacts, reasons_engines
from results.engines import NO_SAMPLES, EngineLoads, Samples, engine_loads
from results.headroom import Headroom, judge_headroom
from results.latency import (
    Distribution,
    duration_ns,
    latency_ns,
    send_delay_ns,
    succeeded,
    tpot_ns,
    ttft_ns,
)
from results.loadgen_log import LoadGenLog
from results.records import Records
from results.replicas import ReplicaShare, replica_shares
from results.streams import Draining, draining, event_gaps_ns
from results.verdict import Facts, Judgement, judge

HANDOVER_SLACK_S = 0.5


@dataclass(frozen=True, slots=True)
class Metric:
    """The number that MLPerf reports, as LoadGen states it."""

    name: str
    value: float | None
    unit: str


@dataclass(frozen=True, slots=True)
class Execution:
    """What the run itself told, beside records and logs."""

    returned: bool
    interrupted: bool
    crash: str | None
    issued: int
    reasons: dict[str, list[str]]
    scheduled_ns: int | None
    ttft_limit_ns: int
    tpot_limit_ns: int
    workers: tuple[WorkerAccount, ...]
    n_workers: int  # that were started
    loadgen: ProcessAccount
    urls: tuple[str, ...]  # of the replicas, by their numbers
    accuracy_log_complete: bool
    said: EngineFacts = field(default_factory=EngineFacts)
    samples: Samples = field(default_factory=lambda: NO_SAMPLES)  # of the engines, and around it
    left_open: dict[str, int] = field(default_factory=dict)  # URL -> requests, after a bad end


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of the answers: this run's check, or why there is none, and the gate's."""

    check: Check | None = None
    reason: str | None = None
    gate: Check | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. Times in nanoseconds, lengths in tokens."""

    scenario: str
    mode: str
    judgement: Judgement
    check: Check | None  # of this run's answers
    gate: Check | None  # of the accuracy run before this one; None: ungated
    metric: Metric | None
    loadgen_validity: str | None
    issued: int
    ok: int
    failures: dict[str, int]
    failure_reasons: dict[str, list[str]]
    duration_s: float
    qps: float
    tokens_per_s: float
    output_tokens: int
    ttft_ns: Distribution | None
    tpot_ns: Distribution | None
    latency_ns: Distribution | None
    event_gap_ns: dict[str, float | None]  # ITL by stream event, p50/p90/p99, undrained reads only
    tokens_per_event: float | None
    draining: Draining | None
    isl: Distribution | None
    osl: Distribution | None
    ttft_limit_ns: int | None
    tpot_limit_ns: int | None
    handover_ns: float | None  # by how much LoadGen sees first tokens later than the client
    due_times_exact: bool
    headroom: Headroom
    engine_said: EngineFacts
    engines: EngineLoads
    left_open: dict[str, int]  # requests that engines still had well after a run that broke off
    replicas: tuple[ReplicaShare, ...]
    balance: Balance  # of the replicas
    replicas_out: dict[str, str]
    loadgen_warnings: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return self.judgement.verdict.exit_code

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        fields.pop("judgement")
        head = {name: fields.pop(name) for name in ("scenario", "mode")}
        return {
            **head,
            "verdict": self.judgement.text,
            "exit_code": self.exit_code,
            "reasons": self.judgement.reasons,
            **fields,
        }


def summarise(
    config: RunConfig,
    execution: Execution,
    records: Records,
    log: LoadGenLog,
    unofficial_reasons: tuple[str, ...],
    judged: Judged,
) -> Summary:
    """Compute a run's summary; works for a run that broke off, too."""
    good = succeeded(records)
    seconds = duration_ns(records) / 1e9
    tokens = int(good["n_tokens"].sum())
    timed = config.scenario.is_timed
    failures = _failures(records)
    headroom = _headroom(config, execution, records)
    loads = _engine_loads(execution, records)
    shares = replica_shares(records, execution.urls)
    facts = Facts(
        interrupted=execution.interrupted,
        crash=execution.crash,
        loadgen_returned=execution.returned,
        loadgen_complete=log.complete(accuracy=config.accuracy)
        and (execution.accuracy_log_complete or not config.accuracy),
        loadgen_valid=log.valid,
        loadgen_errors=log.num_errors,
        loadgen_queries=_loadgen_queries(log),
        issued=execution.issued,
        recorded=len(records),
        failures=failures,
        token_rate_difference=_rate_difference(config, records, log, tokens),
        invalid_reasons=tuple(log.invalid_reasons()),
        unofficial_reasons=(
            *reasons_engines(config, execution.said, loads, records),
            *unofficial_reasons,
        ),
        accuracy=config.accuracy,
        audit=config.audit is not None,
        check=judged.check,
        unscored_reason=judged.reason,
        demonstration=config.demonstration,
        limited=headroom.reasons,
    )
    first_tokens = ttft_ns(good)
    return Summary(
        scenario=config.scenario.value,
        mode=config.compliance or ("accuracy" if config.accuracy else "performance"),
        judgement=judge(facts),
        check=judged.check,
        gate=judged.gate,
        metric=_metric(config, log),
        loadgen_validity=log.values.get("result_validity"),
        issued=execution.issued,
        ok=len(good),
        failures=failures,
        failure_reasons=execution.reasons,
        duration_s=seconds,
        qps=len(good) / seconds if seconds else 0.0,
        tokens_per_s=tokens / seconds if seconds else 0.0,
        output_tokens=tokens,
        ttft_ns=Distribution.of(first_tokens),
        tpot_ns=Distribution.of(tpot_ns(good)),
        latency_ns=Distribution.of(latency_ns(good)),
        event_gap_ns=event_gaps_ns(execution.workers),
        tokens_per_event=tokens / int(good["n_events"].sum()) if timed and len(good) else None,
        draining=draining(execution.workers, int(np.count_nonzero(records["first_token_ns"]))),
        isl=Distribution.of(good["prompt_tokens"].astype(np.int64)),
        osl=Distribution.of(good["n_tokens"].astype(np.int64)),
        ttft_limit_ns=execution.ttft_limit_ns if timed else None,
        tpot_limit_ns=execution.tpot_limit_ns if timed else None,
        handover_ns=_handover(log, Distribution.of(first_tokens), failures),
        due_times_exact=_due_times_exact(execution, log),
        headroom=headroom,
        engine_said=execution.said,
        engines=loads,
        left_open=execution.left_open,
        replicas=shares,
        balance=balance(shares),
        replicas_out=_replicas_out(execution.workers),
        loadgen_warnings=log.warnings,
    )


def _headroom(config: RunConfig, execution: Execution, records: Records) -> Headroom:
    timed = config.scenario.is_timed
    return judge_headroom(
        execution.workers,
        execution.loadgen,
        Distribution.of(send_delay_ns(records)) if timed else None,
        execution.ttft_limit_ns,
        duration_ns(records) / 1e9,
        n_workers=execution.n_workers,
        max_concurrency=config.max_concurrency,
        by_answers=config.accuracy or config.audit is not None,
    )


def _engine_loads(execution: Execution, records: Records) -> EngineLoads:
    begin_ns, end_ns = (
        (int(records["due_ns"].min()), int(records["done_ns"].max())) if len(records) else (0, 0)
    )
    return engine_loads(execution.samples, execution.urls, begin_ns, end_ns)


def _failures(records: Records) -> dict[str, int]:
    counts = np.bincount(records["outcome"], minlength=len(Outcome))
    return {o.label: int(counts[o]) for o in Outcome if o is not Outcome.OK and counts[o]}


def _loadgen_queries(log: LoadGenLog) -> int | None:
    queries, samples = (
        log.number("generated_query_count"),
        log.number("generated_samples_per_query"),
    )
    return None if queries is None or samples is None else int(queries * samples)


def _metric(config: RunConfig, log: LoadGenLog) -> Metric | None:
    if config.accuracy:
        return None
    name = (
        "result_completed_tokens_per_second"
        if config.scenario.is_timed
        else "result_tokens_per_second"
    )
    return Metric(name, log.number(name), "tokens/s")


def _rate_difference(
    config: RunConfig, records: Records, log: LoadGenLog, tokens: int
) -> float | None:
    """LoadGen's token rate against the same rate from our records, relative.

    LoadGen's clock stops when a completion has come through the pipe, so half a second is no
    difference; it hides nothing in a run of ten minutes.
    """
    metric = _metric(config, log)
    if metric is None or not metric.value or not tokens:
        return None
    # In Server LoadGen counts up to the end of the query that was issued last.
    last = records[np.argmax(records["due_ns"])] if config.scenario.is_timed else None
    end = last["done_ns"] if last is not None else records["done_ns"].max()
    ours_s = int(end - records["due_ns"].min()) / 1e9
    theirs_s = tokens / metric.value
    return max(0.0, abs(ours_s - theirs_s) - HANDOVER_SLACK_S) / theirs_s


def _handover(log: LoadGenLog, ours: Distribution | None, failures: dict[str, int]) -> float | None:
    theirs = log.number("result_first_token_mean_latency_ns")
    return None if theirs is None or ours is None or failures else theirs - ours.mean


def _due_times_exact(execution: Execution, log: LoadGenLog) -> bool:
    """Whether our reckoning of the schedule ends where LoadGen's does."""
    if execution.scheduled_ns is None:
        return True
    return log.number("generated_query_duration") == execution.scheduled_ns


def _replicas_out(workers: tuple[WorkerAccount, ...]) -> dict[str, str]:
    return {url: why for worker in workers for url, why in worker.replicas_out.items()}
