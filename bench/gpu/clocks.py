"""One run of a client as figures in milliseconds: by the client's clock, by the engine's, and in CPU."""

from __future__ import annotations

from collections.abc import Mapping
from math import isinf
from typing import Any

from bench.gpu.histograms import Histogram
from bench.gpu.watch import Watched
from results.latency import Distribution, Durations, send_delay_ns, tpot_ns, ttft_ns
from results.records import Records


def amounts(records: Records, watched: Watched) -> dict[str, Any]:
    """Counts, and rates from the first request to the last answer."""
    begin_ns, end_ns = int(records["sent_ns"].min()), int(records["done_ns"].max())
    window_s, cpu_s = (end_ns - begin_ns) / 1e9, watched.cpu_s(begin_ns, end_ns)
    tokens = int(records["n_tokens"].sum())
    return {
        "requests": len(records),
        "input_tokens": int(records["prompt_tokens"].sum()),
        "output_tokens": tokens,
        "tokens_per_event": tokens / int(records["n_events"].sum()),
        "window_s": window_s,
        "qps": len(records) / window_s,
        "cpu_ms_per_request": cpu_s * 1e3 / len(records),
        "busy": cpu_s / window_s,  # of one core
    }


def by_client(records: Records) -> dict[str, Any]:
    """TTFT counts from the sending, as the engine's does from the arrival."""
    sent = records.copy()
    sent["due_ns"] = sent["sent_ns"]
    return {"ttft": _told(ttft_ns(sent)), "tpot": _told(tpot_ns(records))}


def from_due(records: Records) -> dict[str, Any]:
    """TTFT as LoadGen defines it, and by how much later than due requests were sent."""
    return {"ttft": _told(ttft_ns(records)), "late": _told(send_delay_ns(records))}


def _told(values_ns: Durations) -> dict[str, float] | None:
    found = Distribution.of(values_ns)
    if found is None:
        return None
    return {"p50": found.p50 / 1e6, "p99": found.p99 / 1e6, "mean": found.mean / 1e6}


def by_engine(histograms: Mapping[str, Histogram]) -> dict[str, Any]:
    """A percentile is its bucket's bounds, None for one that has no upper one."""
    return {name: _bucketed(histogram) for name, histogram in histograms.items()}


def _bucketed(histogram: Histogram) -> dict[str, Any]:
    found: dict[str, Any] = {"count": histogram.count, "mean": histogram.mean_s * 1e3}
    for percent in (50, 99):
        bounds_s = histogram.bucket_of(percent)
        found[f"p{percent}"] = [None if isinf(bound) else bound * 1e3 for bound in bounds_s]
    return found
