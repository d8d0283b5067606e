"""Replicas beside each other: how evenly tokens were spread, who is slower than the rest, nodes.

A straggler must be found on a cluster of 94 and of 2, and noise must not make one. So each replica
is compared with the median of the *others* (among two, the slow one would move a common median
towards itself), and the difference must be larger than both a fixed share and what is usual among
the others, by their median absolute deviation: one outlier more does not move that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from results.replicas import ReplicaShare

SLOWER = 0.10  # at least: GPUs of one kind differ by a few percent
SIGMAS = 3.0
SIGMA_OF_MAD = 1.4826  # of a normal distribution
MIN_QUERIES = 20  # with fewer, a replica's pace is that of the queries it happened to get

Measure = Literal["tpot", "tokens_per_s"]
Paces = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Straggler:
    """A replica that is slower than the others."""

    number: int
    url: str
    measure: Measure  # the median TPOT, or in Offline the tokens in a second of work
    slower: float  # time for a token beyond the others' median, relative


@dataclass(frozen=True, slots=True)
class NodeShare:
    """What the replicas of one host did together."""

    node: str
    replicas: int
    ok: int
    failed: int
    tokens: int
    prompt_tokens: int
    tokens_per_s: float  # the sum of its replicas', each while it worked
    stragglers: int


@dataclass(frozen=True, slots=True)
class Balance:
    """How even a run was."""

    tokens_above_mean: float | None  # of the fullest replica, relative; None without tokens
    tokens_below_mean: float | None  # of the emptiest one, as a positive share
    stragglers: tuple[Straggler, ...]  # the slowest first
    nodes: tuple[NodeShare, ...]


def balance(shares: Sequence[ReplicaShare]) -> Balance:
    tokens = np.array([share.tokens for share in shares], np.float64)
    mean = tokens.mean() if len(tokens) else 0.0
    slow = stragglers(shares)
    return Balance(
        tokens_above_mean=float(tokens.max() / mean - 1) if mean else None,
        tokens_below_mean=float(1 - tokens.min() / mean) if mean else None,
        stragglers=slow,
        nodes=_nodes(shares, {one.number for one in slow}),
    )


def stragglers(shares: Sequence[ReplicaShare]) -> tuple[Straggler, ...]:
    """Who is slower than the median of the others by more than `SLOWER` and `SIGMAS`."""
    judged = [share for share in shares if _has_a_pace(share)]
    measure: Measure = "tpot" if all(share.tpot_ns for share in judged) else "tokens_per_s"
    paces = np.array([_pace(share, measure) for share in judged])
    found = []
    for i, share in enumerate(judged if len(judged) > 1 else ()):
        others = np.delete(paces, i)
        usual = float(np.median(others))
        excess = paces[i] - usual
        if excess > SLOWER * usual and excess > SIGMAS * _sigma(others):
            found.append(Straggler(share.number, share.url, measure, float(excess / usual)))
    return tuple(sorted(found, key=lambda one: -one.slower))


def _has_a_pace(share: ReplicaShare) -> bool:
    """Enough queries with tokens, whose tokens did not arrive all at once: a client that looks late
    sees most answers whole, with a median TPOT of 0, which tells nothing of the engine."""
    at_once = share.tpot_ns is not None and not share.tpot_ns.p50
    return share.ok >= MIN_QUERIES and bool(share.tokens_per_s) and not at_once


def _pace(share: ReplicaShare, measure: Measure) -> float:
    """Time for a token."""
    if measure == "tpot" and share.tpot_ns:
        return share.tpot_ns.p50
    return 1e9 / (share.tokens_per_s or np.inf)


def _sigma(paces: Paces) -> float:
    """A standard deviation that outliers do not move."""
    return SIGMA_OF_MAD * float(np.median(np.abs(paces - np.median(paces))))


def _nodes(shares: Sequence[ReplicaShare], slow: set[int]) -> tuple[NodeShare, ...]:
    """The nodes in the order of their first replicas."""
    found: dict[str, list[ReplicaShare]] = {}
    for share in shares:
        found.setdefault(share.node, []).append(share)
    return tuple(
        NodeShare(
            node=node,
            replicas=len(mine),
            ok=sum(share.ok for share in mine),
            failed=sum(share.failed for share in mine),
            tokens=sum(share.tokens for share in mine),
            prompt_tokens=sum(share.prompt_tokens for share in mine),
            tokens_per_s=sum(share.tokens_per_s or 0.0 for share in mine),
            stragglers=sum(share.number in slow for share in mine),
        )
        for node, mine in found.items()
    )
