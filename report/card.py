"""The card: what a performance engineer looks for, on one screen."""

from __future__ import annotations

from collections.abc import Iterator

from report.engines import engines_row
from report.harness import draining_row, headroom_row
from report.layout import INDENT, MS, WIDTH, flow, percent
from report.replicas import replicas_row
from results.latency import Distribution
from results.summary import Summary

MAX_REASONS = 4
NOTES = {
    "DEMONSTRATION": "This is a demonstration, not an MLPerf result.",
    "UNOFFICIAL": "This run is no MLPerf result.",
    "UNSCORED": "The answers are not scored.",
}


def render_card(summary: Summary, engine: str, run_dir: str) -> str:
    """The card's lines as one text."""
    lines = [
        _rule(f"{summary.scenario} · {summary.mode} · {engine}"),
        *_throughput(summary),
        *_accuracy(summary),
        *_latencies(summary),
        *_lengths(summary),
        *draining_row(summary),
        *headroom_row(summary),
        *_failures(summary),
        *replicas_row(summary),
        *engines_row(summary),
        *_left_open(summary),
        *_verdict(summary),
        f"run folder  {run_dir}",
        _rule(""),
    ]
    return "\n".join(lines)


def _rule(title: str) -> str:
    return f"── {title} ".ljust(WIDTH, "─") if title else "─" * WIDTH


def _throughput(summary: Summary) -> Iterator[str]:
    metric = summary.metric
    if metric is not None:
        value = "none" if metric.value is None else f"{metric.value:,.1f} {metric.unit}"
        yield f"result      {value}   (LoadGen's {metric.name})"
    yield (
        f"throughput  {summary.tokens_per_s:,.1f} tokens/s   {summary.qps:,.2f} queries/s   "
        f"{summary.output_tokens:,} tokens in {summary.duration_s:,.1f} s"
    )


def _accuracy(summary: Summary) -> Iterator[str]:
    if summary.check is not None:
        yield f"answers     {summary.check.sentence}"
    elif summary.gate is not None:
        yield f"gate        passed: {summary.gate.sentence}"
    elif summary.mode == "performance":
        yield "gate        none: the answers behind this number were not scored (--gate)"


def _latencies(summary: Summary) -> Iterator[str]:
    rows = [
        ("TTFT", summary.ttft_ns, summary.ttft_limit_ns),
        ("TPOT", summary.tpot_ns, summary.tpot_limit_ns),
        ("latency", summary.latency_ns, None),
    ]
    yield "            " + "".join(
        f"{name:>12}" for name in ("p50", "p90", "p99", "max", "p99 limit")
    )
    for name, found, limit in rows:
        if found is not None:
            bound = "" if limit is None else f"{limit / MS:12,.1f}"
            mark = "" if limit is None or found.p99 <= limit else "  over the limit"
            yield f"{name + ' ms':<12}" + _row(found) + bound + mark
    yield from _gaps(summary)


def _gaps(summary: Summary) -> Iterator[str]:
    gaps, drained = summary.event_gap_ns, summary.draining
    if gaps["p50"] is not None:
        yield (
            f"{'ITL ms':<12}"
            + "".join(f"{(gaps[key] or 0) / MS:12,.2f}" for key in ("p50", "p90", "p99"))
            + f"   by event, {summary.tokens_per_event or 0:.2f} tokens each"
        )
        if drained is not None:
            share = percent(1 - drained.reads_share)
            yield f"{'':<12}of {share} of the reads: drained streams have no times between events"
    elif drained is not None:
        yield f"{'ITL ms':<12}none: drained streams have no times between events"


def _row(found: Distribution) -> str:
    return "".join(f"{value / MS:12,.2f}" for value in (found.p50, found.p90, found.p99, found.max))


def _lengths(summary: Summary) -> Iterator[str]:
    for name, found in (("ISL", summary.isl), ("OSL", summary.osl)):
        if found is not None:
            yield (
                f"{name + ' tokens':<12}mean {found.mean:,.1f}   p50 {found.p50:,.0f}   "
                f"p99 {found.p99:,.0f}   max {found.max:,.0f}"
            )


def _failures(summary: Summary) -> Iterator[str]:
    failed = sum(summary.failures.values())
    yield f"queries     {summary.issued} issued   {summary.ok} ok   {failed} failed"
    for name, count in summary.failures.items():
        yield f"  {count:>6} {name}"
        for reason in summary.failure_reasons.get(name, ())[:1]:
            yield f"         {reason[: WIDTH - 9]}"
    for url, reason in summary.replicas_out.items():
        yield f"  replica {url} was taken out: {reason}"[:160]


def _left_open(summary: Summary) -> Iterator[str]:
    for url, count in summary.left_open.items():
        yield from flow("left open", f"{url} still has {count} requests, perhaps of others")


def _verdict(summary: Summary) -> Iterator[str]:
    yield f"LoadGen     {summary.loadgen_validity or 'gives no verdict in this mode'}"
    judgement = summary.judgement
    yield f"verdict     {judgement.text}   (exit code {summary.exit_code})"
    for reason in judgement.reasons[:MAX_REASONS]:
        yield from flow(" " * INDENT + "- ", reason)
    if len(judgement.reasons) > MAX_REASONS:
        yield f"            - and {len(judgement.reasons) - MAX_REASONS} more in summary.json"
    if judgement.verdict.value in NOTES:
        yield f"            {NOTES[judgement.verdict.value]}"
