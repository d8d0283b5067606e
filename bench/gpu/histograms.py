"""Latencies by the engine's own clock: the histograms on vLLM's `/metrics`, of a run by difference.

The engine counts from the request's arrival in its process to the token's, so its TTFT lacks what
HTTP and a client add. It tells exact means; of a percentile only the bucket is known, and here it
stays a bucket.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf

from backends.pages import fetch
from core.errors import RunError

TIMEOUT_S = 30.0  # a busy engine writes its page late
NAMES = {
    "time_to_first_token_seconds": "ttft",
    "request_time_per_output_token_seconds": "tpot",
    "e2e_request_latency_seconds": "e2e",
    "inter_token_latency_seconds": "itl",
}
SERIES = re.compile(rf"^vllm:({'|'.join(NAMES)})_(bucket|sum)\{{(.*)\}} (\S+)$", re.MULTILINE)
BOUND = re.compile(r'\ble="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations in seconds, counted in buckets."""

    bounds_s: tuple[float, ...]  # of each bucket the upper one, which it includes; the last is +Inf
    counts: tuple[int, ...]  # of each bucket by itself
    sum_s: float

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean_s(self) -> float:
        """Exact. Raises ZeroDivisionError without values."""
        return self.sum_s / self.count

    def bucket_of(self, percent: float) -> tuple[float, float]:
        """The bounds of the bucket with that percentile, which is LoadGen's: of n sorted values the
        one at index floor(n * p). Raises ValueError without values."""
        if not self.count:
            raise ValueError("a histogram without values has no percentiles")
        index = min(int(self.count * percent / 100), self.count - 1)
        place = bisect_right(list(accumulate(self.counts)), index)
        return (0.0, *self.bounds_s)[place], self.bounds_s[place]

    def __sub__(self, before: Histogram) -> Histogram:
        """What came after `before`. Raises RunError where less is counted than before."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        if min(counts) < 0:
            raise RunError("the engine counts less than before the run: it was started anew")
        return Histogram(self.bounds_s, counts, self.sum_s - before.sum_s)


def read_histograms(url: str) -> dict[str, Histogram]:
    """Of the engine at `url` since its start: ttft, tpot, e2e, itl, those that it shows.

    Raises RunError when it does not answer.
    """
    try:
        status, page = fetch(f"{url}/metrics", TIMEOUT_S)
    except OSError as error:
        raise RunError(f"{url}/metrics does not answer ({error}): has the engine ended?") from None
    if status != 200:
        raise RunError(f"{url}/metrics answers {status}: its histograms are needed")
    return parse_histograms(page.decode())


def parse_histograms(page: str) -> dict[str, Histogram]:
    """Of a Prometheus page; several engines behind one address are added up."""
    below: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    sums: dict[str, float] = defaultdict(float)
    for name, kind, labels, value in SERIES.findall(page):
        if kind == "sum":
            sums[name] += float(value)
        elif bound := BOUND.search(labels):
            below[name][float(bound[1])] += float(value)
    return {NAMES[name]: _histogram(below[name], sums[name]) for name in below}


def _histogram(below: Mapping[float, float], sum_s: float) -> Histogram:
    """below: how many values are at most so long, by bound."""
    bounds = sorted({*below, inf})
    steps = pairwise((0.0, *(below[bound] for bound in bounds)))
    return Histogram(tuple(bounds), tuple(round(now - then) for then, now in steps), sum_s)


def grown(before: Mapping[str, Histogram], after: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """What a run added, less those to which it added nothing. Raises RunError."""
    found = {
        key: now - before[key] if key in before else now  # not shown before its first value
        for key, now in after.items()
    }
    return {key: histogram for key, histogram in found.items() if histogram.count}
