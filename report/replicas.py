"""The card's row about how the load was spread, and the table of all replicas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.scenario import Scenario
from report.layout import MS, flow
from results.replicas import ReplicaShare
from results.summary import Summary

MAX_NAMED = 3  # stragglers on the card; all are in the table
TABLE = "python -m report replicas"


def replicas_row(summary: Summary) -> Iterator[str]:
    if len(summary.replicas) > 1:
        yield from flow("replicas", "; ".join(_parts(summary)))


def _parts(summary: Summary) -> Iterator[str]:
    shares, found = summary.replicas, summary.balance
    nodes = f" on {len(found.nodes)} nodes" if len(found.nodes) > 1 else ""
    spread = ""
    if found.tokens_above_mean is not None and found.tokens_below_mean is not None:
        above, below = 100 * found.tokens_above_mean, 100 * found.tokens_below_mean
        spread = f", tokens +{above:.1f} / -{below:.1f} % about the mean"
    yield f"{len(shares)}{nodes}{spread}"
    if summary.scenario == Scenario.OFFLINE:
        yield _tails(shares)
    if slow := found.stragglers:
        named = [f"{one.url} ({slower(one.measure, one.slower)})" for one in slow[:MAX_NAMED]]
        if len(slow) > MAX_NAMED:
            named.append(f"{len(slow) - MAX_NAMED} more ({TABLE})")
        yield f"stragglers: {', '.join(named)}"


def _tails(shares: tuple[ReplicaShare, ...]) -> str:
    worst = max(shares, key=lambda share: share.idle_tail_s)
    mean_s = sum(share.idle_tail_s for share in shares) / len(shares)
    return (
        f"idle at the end: mean {mean_s:,.1f} s, max {worst.idle_tail_s:,.1f} s "
        f"(replica {worst.number})"
    )


def slower(measure: str, share: float) -> str:
    """In the words of what was measured: longer times, or fewer tokens in a second."""
    if measure == "tpot":
        return f"TPOT {100 * share:+.0f} %"
    return f"tokens/s {100 * (1 / (1 + share) - 1):+.0f} %"


def replica_table(summary: Mapping[str, Any]) -> str:
    """All replicas of a summary.json, node by node; stragglers are marked."""
    shares, found = summary["replicas"], summary["balance"]
    mean = sum(share["tokens"] for share in shares) / max(len(shares), 1)
    marks = {one["number"]: slower(one["measure"], one["slower"]) for one in found["stragglers"]}
    timed = any(share["ttft_ns"] for share in shares)
    width = max((len(share["url"]) for share in shares), default=0)
    lines = [_head(width, timed)]
    for node in found["nodes"]:
        lines.append(_node(node))
        lines += [
            _line(share, mean, width, timed, marks.get(share["number"]))
            for share in shares
            if share["node"] == node["node"]
        ]
    return "\n".join(lines)


def _head(width: int, timed: bool) -> str:
    times = ("TTFT p50", "p99 ms", "TPOT p50", "p99 ms") if timed else ("ms/token", "p99")
    names = ("ok", "failed", "tokens", "to mean", "tokens/s", *times, "idle s")
    return f"{'':>4}  {'replica':<{width}}" + "".join(f"{name:>10}" for name in names)


def _node(node: Mapping[str, Any]) -> str:
    return (
        f"{node['node']}: {node['replicas']} replicas, {node['ok']:,} ok, {node['failed']:,} failed, "
        f"{node['tokens']:,} tokens, {node['tokens_per_s']:,.0f} tokens/s"
    )


def _line(share: Mapping[str, Any], mean: float, width: int, timed: bool, mark: str | None) -> str:
    rate, names = share["tokens_per_s"], ("ttft_ns", "tpot_ns") if timed else ("token_latency_ns",)
    cells = [
        f"{share['ok']:,}",
        f"{share['failed']:,}",
        f"{share['tokens']:,}",
        f"{100 * (share['tokens'] / mean - 1):+.1f} %" if mean else "-",
        f"{rate:,.0f}" if rate else "-",
        *(_ms(share[name], key) for name in names for key in ("p50", "p99")),
        f"{share['idle_tail_s']:,.1f}",
    ]
    text = f"{share['number']:>4}  {share['url']:<{width}}" + "".join(f"{c:>10}" for c in cells)
    return text + (f"  straggler: {mark}" if mark else "")


def _ms(found: Mapping[str, float] | None, key: str) -> str:
    return f"{found[key] / MS:,.2f}" if found else "-"
