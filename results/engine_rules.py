"""Why a performance run is no MLPerf result because of what its engines did.

Caching. MLPerf inference rules (mlcommons/inference_policies, inference_rules.adoc), "LoadGen
Operation": "Caching of any other queries, query parameters, or intermediate results is prohibited.
In particular, caching values derived from activations is prohibited"; "LLM Benchmarks": a KV-cache
may be used "where it does not apply across queries", and "every input query must be computed in its
entirety". mlcommons/inference pull request 2445 says the same of prefix caching by name. LoadGen
repeats samples until a run is long enough, so an engine that caches prefixes is measured on less
than the work that it is said to have done.

Streaming. No rule of MLPerf's: a limit of ours. TTFT and TPOT are about tokens as a reader gets
them. An engine that lets them go in a few large pieces meets both limits with streams that stand
still for seconds, and one that answers in one piece has a TTFT of its latency and a TPOT of 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.config import RunConfig
from results.engines import EngineLoads
from results.latency import succeeded
from results.records import Records

# An engine that ran out of cache computes a request again and finds what it had computed itself.
MAX_HIT_RATE = 0.01  # of prompt tokens
MAX_EVENT_SHARE = 0.1  # of the answer, in one event
MIN_EVENT_TOKENS = 2.0  # below: short answers, not large events
MAX_WHOLE = 0.01  # of the answers, in a single event
REMEDIES = {"sglang": "--disable-radix-cache", "vllm": "--no-enable-prefix-caching"}


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the engines said before the run, as far as a rule asks for it."""

    kind: str = "vllm"  # or "sglang"
    prefix_caching: bool | None = None  # of any replica
    stream_interval: int | None = None  # tokens


def reasons_engines(
    config: RunConfig, said: EngineFacts, loads: EngineLoads, records: Records
) -> tuple[str, ...]:
    """Each point with its numbers and a remedy. An accuracy run and a compliance test have none."""
    if config.accuracy or config.audit is not None or not len(records):
        return ()
    streaming = reasons_streaming(said, succeeded(records)) if config.scenario.is_timed else ()
    return (*_caching(said, loads, records), *streaming)


def _caching(said: EngineFacts, loads: EngineLoads, records: Records) -> Iterator[str]:
    remedy = f"start the engine with {REMEDIES[said.kind]}"
    rate = loads.all.prefix_hit_rate
    if rate is not None and rate > MAX_HIT_RATE:
        yield (
            f"{100 * rate:.1f} % of the prompt tokens came from the prefix cache; the rules forbid "
            f"caching across queries: {remedy}"
        )
        return
    repeats = len(records) - len(np.unique(records["index"]))
    if said.prefix_caching and repeats:
        found = "its hit rate is not known" if rate is None else f"hit rate {100 * rate:.1f} %"
        yield (
            f"prefix caching is on ({found}) and {repeats:,} of {len(records):,} queries repeat a "
            f"prompt; the rules forbid caching across queries: {remedy}"
        )


def reasons_streaming(said: EngineFacts, good: Records) -> Iterator[str]:
    """Why TTFT and TPOT of answers that were streamed are not about tokens."""
    if not len(good):
        return
    whole = int(np.count_nonzero((good["n_events"] == 1) & (good["n_tokens"] > 1)))
    if whole > MAX_WHOLE * len(good):
        yield (
            f"{whole:,} of {len(good):,} answers came in a single event: their TTFT is their "
            f"latency and their TPOT is 0: {_smaller(said)}"
        )
        return
    tokens, events = int(good["n_tokens"].sum()), max(1, int(good["n_events"].sum()))
    each, mean = tokens / events, tokens / len(good)
    if each > max(MIN_EVENT_TOKENS, MAX_EVENT_SHARE * mean):
        yield (
            f"an event brought {each:,.1f} tokens, {100 * each / mean:.0f} % of the mean answer of "
            f"{mean:,.0f}: TTFT and TPOT are of {events / len(good):.1f} events an answer, not of "
            f"tokens: {_smaller(said)}"
        )


def _smaller(said: EngineFacts) -> str:
    now = "" if said.stream_interval is None else f" than {said.stream_interval}"
    return f"start the engine with a smaller --stream-interval{now}"
