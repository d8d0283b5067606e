"""The floor: the same requests, sent by a C client that only moves bytes, to the same emulator."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from backends.vllm import VLLM
from bench.measure import prompts
from bench.workloads import AT_ONCE, Workload
from core.config import Sampling
from engine.emulator import build

SOURCE = Path(__file__).with_name("native") / "client.c"
MODEL = "clock"  # the emulator's name for its model


@dataclass(frozen=True, slots=True)
class Floor:
    """What one more query costs the C client."""

    query_us: float
    request_bytes: float  # on average, head included

    def event_us(self, events_per_query: float) -> float:
        return self.query_us / events_per_query


def measure_floor(workload: Workload, urls: Sequence[str], folder: Path, times: int = 1) -> Floor:
    """The slope between the workload's two sizes, taken `times` as large.

    Raises SetupError without a compiler, RuntimeError if the client fails.
    """
    requests = folder / "requests"
    n_bytes = write_requests(workload, urls[0], requests)
    small, big = (_run(workload, size * times, urls[0], requests) for size in workload.sizes)
    queries = (workload.sizes[1] - workload.sizes[0]) * times
    return Floor((big - small) * 1e6 / queries, n_bytes / workload.rows)


def write_requests(workload: Workload, url: str, path: Path) -> int:
    """The requests as the harness sends them, each behind its length; returns their bytes."""
    backend, sampling = VLLM(MODEL), Sampling(max_tokens=workload.max_tokens)
    total = 0
    with path.open("wb") as file:
        for prompt in prompts(workload):
            body = backend.encode(prompt, sampling, stream=workload.stream)
            head = (
                f"POST {backend.path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode()
            file.write(struct.pack("<I", len(head) + len(body)) + head + body)
            total += len(head) + len(body)
    return total


def _run(workload: Workload, size: int, url: str, requests: Path) -> float:
    """CPU seconds of one run of the C client."""
    place = urlsplit(url)
    command = [str(build(SOURCE)), str(place.hostname), str(place.port), str(requests)]
    more = ["--drain-ms", str(workload.drain_ms)] if workload.drain_ms else []
    if workload.qps != AT_ONCE:
        more += ["--rate", str(workload.qps), "--poisson"]
    numbers = [str(workload.connections), str(size)]
    done = subprocess.run([*command, *numbers, *more], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the C client failed: {done.stderr.strip()}")
    return float(json.loads(done.stdout)["cpu_s"])
