"""The highest rate at which a server keeps its latency limits, found by runs of LoadGen.

The limits are judged by each run's own p99, because a search's runs are shorter than the ten minutes
that LoadGen asks for: what is found is a target to try, no result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

from bench.gpu.compiles import shown
from bench.gpu.markdown import markdown
from bench.gpu.ours import Ask, Load, run_ours, write_dataset
from bench.gpu.together import INTERRUPTED
from core.errors import RunError

GROWTH = 1.5  # from rate to rate, until one fails
ROWS = 512  # different prompts
MS = 1e6  # nanoseconds
HEAD = (
    *("target QPS", "queries", "seconds", "TTFT p99 ms", "TPOT p99 ms"),
    *("tokens/s", "compiled", "within limits"),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One run at one rate."""

    qps: float
    queries: int
    seconds: float
    ttft_p99_ms: float
    tpot_p99_ms: float
    ttft_limit_ms: float
    tpot_limit_ms: float
    tokens_per_s: float
    limited: bool | None  # by the harness; None: too short to judge
    verdict: str
    began_s: float = 0.0  # since 1970, as the next
    ended_s: float = 0.0
    failure: str | None = None  # why it is no run; its figures are 0 then

    @property
    def passed(self) -> bool:
        """A run that the harness itself limited says nothing of the engine, so it does not count."""
        within = self.ttft_p99_ms <= self.ttft_limit_ms and self.tpot_p99_ms <= self.tpot_limit_ms
        return within and not self.limited and self.failure is None

    @classmethod
    def failed(cls, qps: float, why: str) -> Trial:
        """A rate that the engine did not survive, such as one at which a query timed out."""
        return cls(qps, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, "FAILED", failure=why)

    @classmethod
    def of(cls, qps: float, summary: dict[str, Any]) -> Trial:
        return cls(
            qps=qps,
            queries=summary["ok"],
            seconds=summary["duration_s"],
            ttft_p99_ms=summary["ttft_ns"]["p99"] / MS,
            tpot_p99_ms=summary["tpot_ns"]["p99"] / MS,
            ttft_limit_ms=summary["ttft_limit_ns"] / MS,
            tpot_limit_ms=summary["tpot_limit_ns"] / MS,
            tokens_per_s=summary["tokens_per_s"],
            limited=summary["headroom"]["limited"],
            verdict=summary["verdict"],
        )


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how exactly is searched."""

    start_qps: float
    seconds: float  # of a run, without its end
    runs: int  # at most
    precision: float = 0.05  # between the best rate and the worst above it


def search(run: Callable[[float], Trial | None], effort: Effort) -> list[Trial]:
    """Trials in the order in which they were made; None ends the search."""
    trials: list[Trial] = []
    while len(trials) < effort.runs and (rate := next_rate(trials, effort)) is not None:
        if (trial := run(rate)) is None:
            break
        trials.append(trial)
    return trials


def next_rate(trials: Sequence[Trial], effort: Effort) -> float | None:
    """Up or down until both a pass and a fail are known, then between them; None: close enough."""
    low, high = best(trials), lowest_failure(trials)
    if low is None:
        return effort.start_qps if high is None else high / GROWTH
    if high is None:
        return low * GROWTH
    return None if high <= low * (1 + effort.precision) else math.sqrt(low * high)


def best(trials: Iterable[Trial]) -> float | None:
    """The highest rate below every failure: above one, a pass was luck."""
    trials = list(trials)
    ceiling = lowest_failure(trials)
    passed = [t.qps for t in trials if t.passed and (ceiling is None or t.qps < ceiling)]
    return max(passed, default=None)


def lowest_failure(trials: Iterable[Trial]) -> float | None:
    return min((trial.qps for trial in trials if not trial.passed), default=None)


def find_rate(
    urls: Sequence[str],
    mode: str,
    ask: Ask,
    effort: Effort,
    folder: Path,
    say: Callable[[str], None],
    stopped: Event,
) -> dict[str, Any]:
    """Search, a folder for each run, until `stopped`. The result has an `error` when that ended it, or
    when no rate gave a run."""
    dataset = write_dataset(folder / "data.parquet", ROWS, ask.isl, ids=ask.ids)

    def run(qps: float) -> Trial | None:
        queries = max(2, round(qps * effort.seconds))
        # LoadGen issues no fewer queries than there are samples.
        flags = ("--warmup", "0", "--max-samples", str(min(ROWS, queries)))
        load = Load(mode, dataset, ask.osl, queries, qps, flags=flags)
        began_s = time.time()
        try:
            found = Trial.of(qps, run_ours(load, urls, folder / f"{qps:.3f}"))
        except RunError as error:
            if stopped.is_set():  # it was ended by us, and says nothing of the rate
                return None
            found = Trial.failed(qps, str(error))
        found = replace(found, began_s=began_s, ended_s=time.time())
        say(f"{mode}: {line(found)}")
        return found

    trials = search(run, effort)
    error = None
    if stopped.is_set():
        error = INTERRUPTED
    elif all(trial.failure is not None for trial in trials):
        error = f"no rate gave a run: {trials[-1].failure}"
    return {
        "error": error,
        "mode": mode,
        "isl": ask.isl,
        "osl": ask.osl,
        "replicas": len(urls),
        "best_qps": best(trials),
        "lowest_failing_qps": lowest_failure(trials),
        "trials": [{**asdict(trial), "passed": trial.passed} for trial in trials],
    }


def line(trial: Trial) -> str:
    if trial.failure is not None:
        return f"{trial.qps:.2f} QPS: {trial.failure}"
    word = "within" if trial.passed else "over"
    return (
        f"{trial.qps:.2f} QPS: TTFT p99 {trial.ttft_p99_ms:,.0f} ms, TPOT p99 "
        f"{trial.tpot_p99_ms:.1f} ms: {word} the limits"
    )


def table(result: dict[str, Any]) -> str:
    """Markdown: the trials by rate."""
    trials = sorted(result["trials"], key=lambda trial: float(trial["qps"]))
    return markdown(HEAD, map(_row, trials))


def _row(trial: dict[str, Any]) -> tuple[str, ...]:
    if trial["failure"]:
        blank = [""] * (len(HEAD) - 2)
        return (f"{trial['qps']:.2f}", *blank, "no run: queries failed, or the harness")
    mark = "yes" if trial["passed"] else "limited by the harness" if trial["limited"] else "no"
    return (
        f"{trial['qps']:.2f}",
        f"{trial['queries']:,}",
        f"{trial['seconds']:.0f}",
        f"{trial['ttft_p99_ms']:,.0f}",
        f"{trial['tpot_p99_ms']:.1f}",
        f"{trial['tokens_per_s']:,.0f}",
        shown(trial.get("compiles")),
        mark,
    )
