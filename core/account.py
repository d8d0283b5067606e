"""What the harness's own processes say of themselves at the end of a run: the self-audit's facts.

A load generator that is itself the bottleneck measures itself, so each process keeps count of its
CPU time and of how long it made an arrival wait, and `results.headroom` judges the counts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProcessAccount:
    """One process during a test."""

    name: str  # "LoadGen" or "worker 0"
    cpu_s: float  # user and system time
    wall_s: float
    busy: tuple[float, ...]  # CPU seconds per second, for each second of the test, in order
    stall_counts: tuple[int, ...]  # core.histogram: turns of the event loop, by their duration


@dataclass(frozen=True, slots=True)
class DrainAccount:
    """How streams were read whose first token was in. All counts are of reads that brought bytes."""

    reads: int  # by the event loop, as bytes arrived
    drained_reads: int  # by the drain, every few milliseconds
    period_ns: int  # of the drain; 0: it was off
    ends: int  # answers whose end the drain found
    end_wait_sum_ns: int  # of these, the time since the stream's look before: an upper bound of
    end_wait_max_ns: int  # how much later than it arrived the end was seen


@dataclass(frozen=True, slots=True)
class WorkerAccount:
    """One client process."""

    process: ProcessAccount
    gap_counts: tuple[int, ...]  # core.histogram: time between arrivals in a stream, undrained ones
    drain: DrainAccount
    replicas_out: dict[str, str]  # url -> why no more queries were sent there

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> WorkerAccount:
        fields: dict[str, Any] = json.loads(data)
        process = fields["process"]
        return cls(
            ProcessAccount(**process | {k: tuple(process[k]) for k in ("busy", "stall_counts")}),
            tuple(fields["gap_counts"]),
            DrainAccount(**fields["drain"]),
            fields["replicas_out"],
        )
