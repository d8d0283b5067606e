"""One look at one replica, and how it crosses the pipe: a struct of fixed size."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

# In the struct's order: all of them as doubles, NaN for what the engine does not expose.
FIELDS = (
    "running",
    "waiting",
    "kv_usage",
    "prefix_queries",
    "prefix_hits",
    "preemptions",
    "generation_tokens",
)
SAMPLE = struct.Struct(f"<qI4x{len(FIELDS)}d")  # t_ns, replica, the fields


@dataclass(frozen=True, slots=True)
class ReplicaSample:
    """What a replica said of itself at one instant. None: it does not expose that."""

    replica: int
    t_ns: int  # CLOCK_MONOTONIC, when the page arrived
    running: int | None = None  # requests
    waiting: int | None = None
    kv_usage: float | None = None  # 0 to 1
    prefix_queries: int | None = None  # tokens since the engine's start, as the others below
    prefix_hits: int | None = None
    preemptions: int | None = None  # requests
    generation_tokens: int | None = None

    @property
    def exposed(self) -> bool:
        """Whether it said anything; SGLang does not without --enable-metrics."""
        return any(getattr(self, name) is not None for name in FIELDS)

    def pack(self) -> bytes:
        values = (getattr(self, name) for name in FIELDS)
        return SAMPLE.pack(
            self.t_ns, self.replica, *(nan if value is None else value for value in values)
        )

    @classmethod
    def of(cls, replica: int, t_ns: int, values: Sequence[float | None]) -> ReplicaSample:
        """A sample of values in FIELDS' order."""
        running, waiting, usage, *counters = values
        queries, hits, preemptions, tokens = map(_whole, counters)
        return cls(
            replica,
            t_ns,
            running=_whole(running),
            waiting=_whole(waiting),
            kv_usage=usage,
            prefix_queries=queries,
            prefix_hits=hits,
            preemptions=preemptions,
            generation_tokens=tokens,
        )

    @classmethod
    def unpack_all(cls, data: bytes) -> list[ReplicaSample]:
        """The samples in `data`, which holds whole structs only."""
        return [
            cls.of(replica, t_ns, [None if isnan(value) else value for value in values])
            for t_ns, replica, *values in SAMPLE.iter_unpack(data)
        ]


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
