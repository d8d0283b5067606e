"""What each replica did, and how long it stood idle at the end while others still worked.

Offline counts until the last answer of all, so a replica that ends early costs throughput: its idle
tail is the part of the run that better balance would win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.outcome import Outcome
from results.records import Records


@dataclass(frozen=True, slots=True)
class ReplicaShare:
    """One replica's part of a run."""

    number: int  # as in the records
    url: str
    ok: int
    failed: int
    tokens: int
    last_end_s: float | None  # of its last query, from the first due time; None: it had no query
    idle_tail_s: float  # from there to the end of the run
    open_elsewhere: int  # queries that others had not ended when it ended its last


def replica_shares(records: Records, urls: Sequence[str]) -> tuple[ReplicaShare, ...]:
    """One entry for each of `urls`, in their order, also for a replica that was never used."""
    if not len(records):
        return ()
    begin_ns, end_ns = int(records["due_ns"].min()), int(records["done_ns"].max())
    return tuple(_share(number, url, records, begin_ns, end_ns) for number, url in enumerate(urls))


def _share(number: int, url: str, records: Records, begin_ns: int, end_ns: int) -> ReplicaShare:
    mine = records[records["replica"] == number]
    good = mine[mine["outcome"] == Outcome.OK]
    last_ns = int(mine["done_ns"].max()) if len(mine) else begin_ns
    return ReplicaShare(
        number=number,
        url=url,
        ok=len(good),
        failed=len(mine) - len(good),
        tokens=int(good["n_tokens"].sum()),
        last_end_s=(last_ns - begin_ns) / 1e9 if len(mine) else None,
        idle_tail_s=(end_ns - last_ns) / 1e9,
        open_elsewhere=int(np.count_nonzero(records["done_ns"] > last_ns)),
    )


def token_excess(shares: Sequence[ReplicaShare]) -> float | None:
    """By how much the fullest replica's tokens exceed the mean, relative; None without tokens."""
    tokens = [share.tokens for share in shares]
    mean = sum(tokens) / len(tokens) if tokens else 0.0
    return (max(tokens) - mean) / mean if mean else None
