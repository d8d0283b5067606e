"""The workloads: what is asked of the engine, and how the answers come back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of traffic, run at two sizes; the slope between them leaves the start-up out."""

    key: str
    title: str
    mode: str
    prompt_tokens: int
    engine: tuple[str, ...]  # flags of the emulator
    max_tokens: int
    in_flight: int
    rows: int  # of the dataset; LoadGen issues whole passes over it
    sizes: tuple[int, int]  # queries, multiples of rows
    per: str  # "query" or "event"


WORKLOADS = (
    Workload(
        key="A",
        title="1,024 ids in, 128 tokens back at once, not streamed, 64 in flight",
        mode="offline",
        prompt_tokens=1024,
        engine=(),
        max_tokens=128,
        in_flight=64,
        rows=500,
        sizes=(2_000, 20_000),
        per="query",
    ),
    Workload(
        key="B",
        title="512 events a query, 10 ms apart, 64 streams",
        mode="server",
        prompt_tokens=128,
        engine=("--itl-ms", "10"),
        max_tokens=512,
        in_flight=64,
        rows=64,
        sizes=(64, 192),
        per="event",
    ),
    Workload(
        key="C",
        title="1,024 tokens in 12 events, back to back, 64 streams",
        mode="server",
        prompt_tokens=128,
        engine=("--chunk", "100"),
        max_tokens=1024,
        in_flight=64,
        rows=500,
        sizes=(500, 3_000),
        per="query",
    ),
)
