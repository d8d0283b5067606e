"""The card's rows about the harness itself."""

from __future__ import annotations

from collections.abc import Iterator

from report.layout import MS, flow, percent
from results.headroom import Headroom
from results.summary import Summary


def draining_row(summary: Summary) -> Iterator[str]:
    drained = summary.draining
    if drained is not None:
        yield from flow(
            "draining",
            f"found {percent(drained.ends_share)} of the ends, late by at most "
            f"{drained.end_wait_max_ns / MS:,.1f} ms (mean {drained.end_wait_mean_ns / MS:,.1f}); "
            f"looks are due at most {drained.period_ns / MS:,.0f} ms apart",
        )


def headroom_row(summary: Summary) -> Iterator[str]:
    headroom = summary.headroom
    yield from flow("headroom", "; ".join(_parts(headroom, summary)))


def _parts(headroom: Headroom, summary: Summary) -> Iterator[str]:
    busiest, late = headroom.busiest, headroom.lateness
    turns = "" if busiest.turn_p99_ns is None else f", turns p99 {busiest.turn_p99_ns / MS:,.2f} ms"
    yield f"busiest process {busiest.name} at {percent(busiest.peak_busy)} of a core{turns}"
    if late is not None:
        exact = "" if summary.due_times_exact else ", due times are approximate"
        yield (
            f"sent late p50 {late.p50_ns / MS:,.2f}, p99 {late.p99_ns / MS:,.2f}, "
            f"max {late.max_ns / MS:,.2f} ms (limit of p99 {late.limit_ns / MS:g}{exact})"
        )
        if summary.handover_ns is not None:
            yield f"LoadGen sees TTFT {summary.handover_ns / MS:+,.3f} ms later"
    if headroom.unjudged is not None:
        yield f"not judged: {headroom.unjudged}"
