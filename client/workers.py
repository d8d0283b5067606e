"""How many client processes a run gets, and which CPUs are theirs.

Figures from `python -m bench`, with a margin of two: one process is good for about 40,000 requests
a second that are not streamed, or 50,000 stream events.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from core.audit import AUDITS
from core.config import RunConfig

REQUESTS_S = 40_000
EVENTS_S = 50_000
REPLICAS_PER_WORKER = 32
LOADGEN_CPUS = 2  # LoadGen's own thread and the one that completes
TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@dataclass(frozen=True, slots=True)
class Rate:
    """What the client has to carry in a second."""

    requests_s: float
    events_s: float = 0.0  # of streams; 0 where answers come in one piece

    @property
    def workers(self) -> int:
        """Processes that carry it."""
        return max(1, ceil(self.requests_s / REQUESTS_S + self.events_s / EVENTS_S))


def expected_answer_tokens(config: RunConfig) -> int:
    """The mean answer's length: in the middle of what TEST09 allows, or as long as it may be."""
    allowed = AUDITS["TEST09"]
    assert allowed.maximum is not None
    return min(config.sampling.max_tokens, round((allowed.minimum + allowed.maximum) / 2))


def expected_rate(config: RunConfig, target_qps: float, tokens_per_event: float = 1.0) -> Rate:
    """The rate of a run at `target_qps`; Offline answers are not streamed."""
    if not config.scenario.is_timed:
        return Rate(target_qps)
    return Rate(target_qps, target_qps * expected_answer_tokens(config) / tokens_per_event)


def choose_workers(
    config: RunConfig, n_replicas: int, spare_cores: int, rate: Rate | None = None
) -> int:
    """--num-workers, or as many as rate and replicas ask for, within `spare_cores`; at least 1.

    More processes than spare cores only take time from each other.
    """
    if config.num_workers is not None:
        return config.num_workers
    wanted = max(ceil(n_replicas / REPLICAS_PER_WORKER), rate.workers if rate else 1)
    return max(1, min(wanted, spare_cores))


def spare_cores(available: Sequence[int] | None = None) -> int:
    """CPUs of this process less the one that LoadGen keeps busy; at least 1."""
    return max(1, len(own_cpus() if available is None else available) - 1)


@dataclass(frozen=True, slots=True)
class CpuSets:
    """Who runs where."""

    loadgen: frozenset[int]
    workers: frozenset[int]


def split_cpus(
    available: Sequence[int], siblings: Mapping[int, Sequence[int]], n_workers: int
) -> CpuSets | None:
    """LoadGen's two CPUs and the workers' rest; None where there is nothing to spare.

    siblings: for each CPU the threads of its physical core. LoadGen gets one whole core, so that no
    worker shares one with it: the last one, as devices interrupt the first ones; where cores have
    one thread only, the last two.
    """
    if len(available) < n_workers + LOADGEN_CPUS:
        return None
    free = set(available)
    cores = [{cpu, *siblings.get(cpu, ())} & free for cpu in sorted(free, reverse=True)]
    whole = next((core for core in cores if len(core) >= LOADGEN_CPUS), None)
    own = sorted(whole if whole is not None else free)[-LOADGEN_CPUS:]
    return CpuSets(frozenset(own), frozenset(free - set(own)))


def cpu_sets(n_workers: int) -> CpuSets | None:
    """`split_cpus` for this machine."""
    available = own_cpus()
    return split_cpus(available, {cpu: _siblings(cpu) for cpu in available}, n_workers)


def own_cpus() -> list[int]:
    """The CPUs that this process may use: fewer than the machine's under Slurm or taskset."""
    return sorted(os.sched_getaffinity(0))


def _siblings(cpu: int) -> list[int]:
    try:
        return parse_cpu_list(Path(TOPOLOGY.format(cpu)).read_text())
    except (OSError, ValueError):
        return [cpu]


def parse_cpu_list(text: str) -> list[int]:
    """The kernel's notation: "0,64" or "0-1" or "0-3,8". Raises ValueError."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus
