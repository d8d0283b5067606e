"""One look at all replicas at once: just before and just after a run, so that what their counters
grew by is the run's, however short it was."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from time import monotonic_ns

from backends.pages import at_once, fetch
from telemetry.prometheus import read_metrics
from telemetry.sample import ReplicaSample

TIMEOUT_S = 2.0
IDLE_LIMIT_S = 10.0  # SGLang looks for closed connections every few seconds
STEP_S = 0.25


def look(urls: Sequence[str]) -> list[ReplicaSample]:
    """A sample of each replica that answers in time; a replica's number is its place."""
    found = at_once(lambda number: look_at(number, urls[number]), range(len(urls)))
    return [sample for sample in found if sample is not None]


def look_at(number: int, url: str) -> ReplicaSample | None:
    try:
        status, page = fetch(f"{url}/metrics", TIMEOUT_S)
    except OSError:
        return None
    if status not in (200, 404):
        return None  # a moment's trouble, not a page without figures
    return read_metrics(page if status == 200 else b"", number, monotonic_ns())


def open_requests(url: str) -> int | None:
    """Requests that the engine runs or lets wait; None where it does not say, or is not there."""
    sample = look_at(0, url)
    if sample is None or sample.running is None:
        return None if sample is None else _loads(url)
    return sample.running + (sample.waiting or 0)


def _loads(url: str) -> int | None:
    """SGLang's /v1/loads, which needs no --enable-metrics."""
    try:
        status, page = fetch(f"{url}/v1/loads", TIMEOUT_S)
        ranks = json.loads(page)["loads"] if status == 200 else []
        counts = [rank["num_running_reqs"] + rank["num_waiting_reqs"] for rank in ranks]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return sum(counts) if counts else None


def left_open(urls: Sequence[str], limit_s: float = IDLE_LIMIT_S) -> dict[str, int]:
    """Wait until the engines have noticed that their client is gone; who still has requests."""
    deadline = time.monotonic() + limit_s
    while True:
        found = dict(zip(urls, at_once(open_requests, urls), strict=True))
        busy = {url: count for url, count in found.items() if count}
        if not busy or time.monotonic() > deadline:
            return busy
        urls = list(busy)
        time.sleep(STEP_S)
