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
from typing import Any

from bench.gpu.compiles import shown
from bench.gpu.ours import Load, run_ours, write_dataset
from core.errors import RunError

GROWTH = 1.5  # from rate to rate, until one fails
ROWS = 512  # different prompts
MS = 1e6  # nanoseconds


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


def search(run: Callable[[float], Trial], effort: Effort) -> list[Trial]:
    """Trials in the order in which they were made."""
    trials: list[Trial] = []
    while len(trials) < effort.runs and (rate := next_rate(trials, effort)) is not None:
        trials.append(run(rate))
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
    isl: int,
    osl: int,
    ids: tuple[int, int],
    effort: Effort,
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Search, a folder for each run; ids: of prompts, from and up to."""
    dataset = write_dataset(folder / "data.parquet", ROWS, isl, ids=ids)

    def run(qps: float) -> Trial:
        queries = max(2, round(qps * effort.seconds))
        # LoadGen issues no fewer queries than there are samples.
        flags = ("--warmup", "0", "--max-samples", str(min(ROWS, queries)))
        load = Load(mode, dataset, osl, queries, qps, flags=flags)
        began_s = time.time()
        try:
            found = Trial.of(qps, run_ours(load, urls, folder / f"{qps:.3f}"))
        except RunError as error:
            found = Trial.failed(qps, str(error))
        found = replace(found, began_s=began_s, ended_s=time.time())
        say(f"{mode}: {line(found)}")
        return found

    trials = search(run, effort)
    return {
        "mode": mode,
        "isl": isl,
        "osl": osl,
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
    rows = [
        "| target QPS | queries | seconds | TTFT p99 ms | TPOT p99 ms | tokens/s | compiled | within "
        "limits |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for trial in sorted(result["trials"], key=lambda trial: float(trial["qps"])):
        mark = "yes" if trial["passed"] else "limited by the harness" if trial["limited"] else "no"
        if trial.get("failure"):
            mark = "no run: queries failed, or the harness"
        rows.append(
            f"| {trial['qps']:.2f} | {trial['queries']:,} | {trial['seconds']:.0f} | "
            f"{trial['ttft_p99_ms']:,.0f} | {trial['tpot_p99_ms']:.1f} | "
            f"{trial['tokens_per_s']:,.0f} | {shown(trial.get('compiles'))} | {mark} |"
        )
    return "\n".join(rows)
