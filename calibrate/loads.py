"""The steady loads of a calibration, and what the run itself will offer.

One load is of nothing but queries, as far as possible, the other of nothing but events, at the run's
own time between two events of a stream: these are what a client's work is made of. They are no
replay of the run: its answers last minutes, and a steady state would be as far away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from calibrate.ceiling import Mix
from calibrate.shape import Shape
from client.workers import expected_answer_tokens
from core.config import RunConfig
from sut.settings import LoadSettings

WINDOW_S = 3.0
# Loads that make a worker about half busy: at a few per cent it would be woken up for each event
# alone, and an event would cost twice as much as near the ceiling.
QPS = 2000.0
OFFLINE_QPS = 5000.0
EVENTS_S = 25_000.0  # for each worker
MOST_WORKERS = 4  # to be loaded fully; more might be the emulator's limit
MAX_STREAMS = 4000
OFFLINE_MS = 100.0  # of an answer: the load follows from how many are open
DEFAULT_TPOT_NS = 20_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """One steady load."""

    what: str
    queries: int
    answer_tokens: int
    ttft_ms: float
    itl_ms: float = 0.0
    max_concurrency: int | None = None


def needed(config: RunConfig, settings: LoadSettings, shape: Shape) -> Mix:
    """What the run will offer."""
    if not config.scenario.is_timed:
        return Mix(settings.target_qps)
    events = 1 + (expected_answer_tokens(config) - 1) / shape.stream_interval
    return Mix(settings.target_qps, settings.target_qps * events)


def loads(
    config: RunConfig, settings: LoadSettings, shape: Shape, n_workers: int
) -> Iterator[Load]:
    """The trials of a scenario."""
    if not config.scenario.is_timed:
        n_tokens, most = expected_answer_tokens(config), int(OFFLINE_QPS * OFFLINE_MS / 1e3)
        yield Load("queries", int(OFFLINE_QPS * WINDOW_S), n_tokens, OFFLINE_MS, 0.0, most)
        return
    yield Load("queries", int(QPS * WINDOW_S), 2, ttft_ms=5.0)
    events_s = EVENTS_S * min(n_workers, MOST_WORKERS)
    # The run's own time between two events of a stream, unless that needs too many streams.
    itl_s = (settings.tpot_limit_ns or DEFAULT_TPOT_NS) / 1e9
    gap_s = min(itl_s * shape.stream_interval, MAX_STREAMS / events_s)
    streams = ceil(events_s * gap_s)
    # The first streams must last until all are open and the window is over.
    n_events = ceil((2 * streams / QPS + WINDOW_S) / gap_s) + 2
    n_tokens = 1 + n_events * shape.stream_interval
    yield Load("events", streams, n_tokens, 5.0, 1e3 * gap_s / shape.stream_interval)
