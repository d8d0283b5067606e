"""What each replica did: its part of the queries and tokens, its pace, its idle tail.

Offline counts until the last answer of all, so a replica that ends early costs throughput: its idle
tail is the part of the run that better balance would win. What replicas are beside each other
(imbalance, stragglers, nodes) is in `results.balance`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

import numpy as np

from results.latency import Durations, percentile, succeeded, tpot_ns, ttft_ns
from results.records import Records


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Median and p99 of one quantity, percentiles as LoadGen's."""

    p50: float
    p99: float

    @classmethod
    def of(cls, values: Durations) -> Quantiles | None:
        """None without values."""
        ordered = np.sort(values)
        return cls(percentile(ordered, 50), percentile(ordered, 99)) if len(ordered) else None


@dataclass(frozen=True, slots=True)
class ReplicaShare:
    """One replica's part of a run. Times in nanoseconds unless their names say seconds."""

    number: int  # as in the records
    url: str
    node: str  # the host in its URL
    ok: int
    failed: int
    tokens: int  # answered
    prompt_tokens: int  # of the queries that succeeded
    busy_s: float  # in which it had a query open
    tokens_per_s: float | None  # of these seconds; None: no tokens
    ttft_ns: Quantiles | None  # None: not timed, as Offline
    tpot_ns: Quantiles | None
    token_latency_ns: Quantiles | None  # Offline: from sent to done, for each token of the answer
    last_end_s: float | None  # of its last query, from the first due time; None: it had no query
    idle_tail_s: float  # from there to the end of the run
    open_elsewhere: int  # queries that others had not ended when it ended its last


def replica_shares(records: Records, urls: Sequence[str]) -> tuple[ReplicaShare, ...]:
    """One entry for each of `urls`, in their order, also for a replica that was never used."""
    if not len(records):
        return ()
    begin_ns, ends_ns = int(records["due_ns"].min()), np.sort(records["done_ns"])
    parts = zip(urls, _by_replica(records, len(urls)), strict=True)
    return tuple(_share(i, url, mine, begin_ns, ends_ns) for i, (url, mine) in enumerate(parts))


def _by_replica(records: Records, n: int) -> Iterator[Records]:
    """Each replica's records; one copy at a time, so that memory holds no second set of all."""
    order = np.argsort(records["replica"], kind="stable")
    edges = np.searchsorted(records["replica"], np.arange(n + 1), sorter=order)
    for start, end in pairwise(edges):
        yield records[order[start:end]]


def _share(number: int, url: str, mine: Records, begin_ns: int, ends_ns: Durations) -> ReplicaShare:
    good = succeeded(mine)
    ttft, busy_s, tokens = Quantiles.of(ttft_ns(good)), _busy_s(mine), int(good["n_tokens"].sum())
    last_ns = int(mine["done_ns"].max()) if len(mine) else begin_ns
    return ReplicaShare(
        number=number,
        url=url,
        node=urlsplit(url).hostname or url,
        ok=len(good),
        failed=len(mine) - len(good),
        tokens=tokens,
        prompt_tokens=int(good["prompt_tokens"].sum()),
        busy_s=busy_s,
        tokens_per_s=tokens / busy_s if tokens and busy_s else None,
        ttft_ns=ttft,
        tpot_ns=Quantiles.of(tpot_ns(good)),
        token_latency_ns=Quantiles.of(_token_latency_ns(good)) if ttft is None else None,
        last_end_s=(last_ns - begin_ns) / 1e9 if len(mine) else None,
        idle_tail_s=int(ends_ns[-1] - last_ns) / 1e9,
        open_elsewhere=len(ends_ns) - int(np.searchsorted(ends_ns, last_ns, side="right")),
    )


def _busy_s(records: Records) -> float:
    """How long at least one query was open: what their intervals cover together."""
    sent = records[records["sent_ns"] > 0]
    if not len(sent):
        return 0.0
    order = np.argsort(sent["sent_ns"])
    begins, ends = sent["sent_ns"][order], np.maximum.accumulate(sent["done_ns"][order])
    gaps = np.maximum(begins[1:] - ends[:-1], 0)  # before a query while none was open
    return int(ends[-1] - begins[0] - gaps.sum()) / 1e9


def _token_latency_ns(records: Records) -> Durations:
    sent = records[(records["sent_ns"] > 0) & (records["n_tokens"] > 0)]
    spans = sent["done_ns"] - sent["sent_ns"]
    return np.asarray(spans // sent["n_tokens"].astype(np.int64), np.int64)
