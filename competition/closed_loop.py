"""A fixed number of requests in flight: the next is sent as soon as one has ended.

The client is the one that LoadGen's runs use. LoadGen itself has no such scenario, so the queries
come from here: all are due at once, and the workers keep no more than CONC of them open. What a query
waited for its turn is therefore no latency: a request's clock starts when it is sent, as in the
original.
"""

from __future__ import annotations

import signal
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Protocol

import numpy as np

from backends.engines import Engines
from client.busy import BusyMeter
from client.plan import plan_concurrency
from client.pool import ClientPool, start_pool
from client.process import Batch
from client.prompts import encode_prompts
from client.spec import Conduct
from competition.prompts import PromptSet
from core.account import ProcessAccount, WorkerAccount
from core.config import Sampling, Timeouts
from core.outcome import Outcome
from core.progress import Progress
from core.record import RECORD
from results.records import Records

CANCEL_GRACE_S = 5.0
TICK_S = 0.25
REASONS_KEPT = 3
# A request of the original's may take six hours; an engine that says nothing for ten minutes is dead.
TIMEOUTS = Timeouts(first_token_s=1800.0, between_tokens_s=600.0, total_s=21_600.0)


@dataclass(frozen=True, slots=True)
class Loop:
    """What happened."""

    records: Records
    reasons: dict[str, list[str]]  # outcome -> some of its reasons
    workers: tuple[WorkerAccount, ...]
    n_workers: int
    main: ProcessAccount
    interrupted: bool
    warnings: tuple[str, ...]


class Report(Protocol):
    """Who is told while the loop runs."""

    def progress(self, now: Progress) -> None: ...

    def records(self, records: bytes) -> None:
        """Records (core.record.RECORD) of requests that have ended."""

    def samples(self, samples: bytes) -> None:
        """What the engines said (telemetry.sample.SAMPLE)."""


class Nobody:
    """A report that is not wanted."""

    def progress(self, now: Progress) -> None:
        """Not shown."""

    def records(self, records: bytes) -> None:
        """Not stored."""

    def samples(self, samples: bytes) -> None:
        """Not stored."""


@dataclass(slots=True)
class _State:
    total: int
    began_s: float = field(default_factory=time.monotonic)
    records: bytearray = field(default_factory=bytearray)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    done: int = 0
    failed: int = 0
    tokens: int = 0

    def take(self, batch: Batch, report: Report) -> None:
        records = b"".join(batch.records)
        self.records += records
        report.records(records)
        self.done += len(batch.records)
        self.tokens += batch.n_tokens
        self.failed += len(batch.failures)
        for failure in batch.failures:
            reasons = self.reasons.setdefault(Outcome(failure.outcome).label, [])
            if len(reasons) < REASONS_KEPT and failure.reason not in reasons:
                reasons.append(failure.reason)

    def progress(self, concurrency: int) -> Progress:
        return Progress(
            elapsed_s=time.monotonic() - self.began_s,
            total=self.total,
            issued=min(self.total, self.done + concurrency),
            done=self.done,
            failed=self.failed,
            tokens=self.tokens,
        )


def run_closed_loop(
    engines: Engines,
    prompt_set: PromptSet,
    concurrency: int,
    report: Report,
    during: AbstractContextManager[object] | None = None,
) -> Loop:
    """Send every prompt once, `concurrency` at a time; temperature 0, answers of given lengths.

    during: entered just before the first request goes out, left when the last has ended.
    Ctrl-C ends the open requests and is told by `interrupted`. Raises SetupError before anything is
    sent.
    """
    backend, sampling = engines.backend, greedy(max(prompt_set.output_lengths))
    plan = plan_concurrency(concurrency, [address.ip for address in engines.addresses])
    conduct = Conduct(
        backend=backend.name,
        model=engines.model,
        stream=True,
        expected_tokens=float(np.mean(prompt_set.output_lengths)),
        routing="least-tokens",
        drain_ms=0.0,  # ITL is of every single event
        timeouts=TIMEOUTS,
        max_concurrency=concurrency,
    )
    prompts = encode_prompts(
        prompt_set.prompts, backend, sampling, stream=True, limits=prompt_set.output_lengths
    )
    meter, state = BusyMeter(), _State(len(prompt_set))
    try:
        with start_pool(conduct, engines.addresses, prompts, plan) as pool:
            meter.start()
            with during or nullcontext():
                pool.submit(range(state.total), range(state.total), monotonic_ns())
                interrupted = _collect(pool, state, meter, concurrency, report)
            workers = tuple(pool.close())
    finally:
        prompts.close()
    return Loop(
        records=np.frombuffer(bytes(state.records), RECORD),
        reasons=state.reasons,
        workers=workers,
        n_workers=plan.n_workers,
        main=meter.account("main process", ()),
        interrupted=interrupted,
        warnings=plan.warnings,
    )


def greedy(max_tokens: int) -> Sampling:
    """InferenceMAX's sampling."""
    return Sampling(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)


def _collect(
    pool: ClientPool,
    state: _State,
    meter: BusyMeter,
    concurrency: int,
    report: Report,
) -> bool:
    """Wait for all ends; whether it was interrupted."""
    try:
        while state.done < state.total:
            for batch in pool.receive(TICK_S):
                state.take(batch, report)
            meter.sample()
            report.progress(state.progress(concurrency))
            report.samples(b"".join(sample.pack() for sample in pool.take_samples()))
    except KeyboardInterrupt:
        _cancel(pool, state, report)
        return True
    return False


def _cancel(pool: ClientPool, state: _State, report: Report) -> None:
    # The end takes a moment; another Ctrl-C would only lose records.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pool.cancel()
        deadline = time.monotonic() + CANCEL_GRACE_S
        while state.done < state.total and time.monotonic() < deadline:
            for batch in pool.receive(TICK_S):
                state.take(batch, report)
    finally:
        with suppress(TypeError):  # a handler that was not set from Python
            signal.signal(signal.SIGINT, before)
