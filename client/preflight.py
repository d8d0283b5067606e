"""What the operating system allows, against what a run will open: found before it, not in it.

An error is what makes a run fail for certain: more connections at once than there are descriptors
or ports for. What is only expected (a Server run's connections follow from its latencies), or only
slows things down, is a warning.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

from core.config import RunConfig
from core.errors import SetupError
from core.files import most_files
from core.limits import EPHEMERAL, Limits, parse_limits

RESERVED_FILES = 32  # of a worker's descriptors: pipes, the event loop, libraries
STREAM_BYTES = 60_000  # of a worker, for each open request
MEMORY_SHARE = 0.5  # of what is available, beyond which we warn


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that stands in the way of a run."""

    level: Literal["error", "warning"]
    what: str
    value: str
    remedy: str

    @property
    def sentence(self) -> str:
        return f"{self.what}: {self.value}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Connections:
    """What a run opens at the same time."""

    total: int
    n_workers: int
    n_replicas: int
    certain: bool  # else it is what is expected at the latency limits
    local: bool = False  # the engines are on this machine

    @property
    def of_worker(self) -> int:
        return ceil(self.total / self.n_workers)

    @property
    def of_replica(self) -> int:
        return ceil(self.total / self.n_replicas)


def offline_connections(
    config: RunConfig, per_replica: int, n_workers: int, ips: Sequence[str], n_queries: int
) -> Connections:
    """Offline keeps --max-concurrency queries open, or `per_replica` at each replica; no more than
    there are."""
    total = min(config.max_concurrency or per_replica * len(ips), n_queries)
    return Connections(total, n_workers, len(ips), True, any_local(ips))


def timed_connections(
    config: RunConfig,
    target_qps: float,
    answer_tokens: int,
    ttft_limit_ns: int,
    tpot_limit_ns: int,
    n_workers: int,
    ips: Sequence[str],
) -> Connections:
    """Little's law at the latency limits: as many as arrive while one of them is answered."""
    answer_s = (ttft_limit_ns + answer_tokens * tpot_limit_ns) / 1e9
    total = max(1, ceil(target_qps * answer_s))
    if config.max_concurrency is not None:
        total = min(total, config.max_concurrency)
    return Connections(total, n_workers, len(ips), False, any_local(ips))


def any_local(ips: Sequence[str]) -> bool:
    """Whether an engine is on this machine."""
    return any(ipaddress.ip_address(ip).is_loopback for ip in ips)


def room_per_replica(limits: Limits, n_workers: int, n_replicas: int) -> int | None:
    """Connections that each replica can have open at most; a bound for `client.pacing`."""
    rooms = []
    if limits.files is not None:
        rooms.append((limits.files - RESERVED_FILES) * n_workers // n_replicas)
    if limits.ports is not None:
        rooms.append(limits.ports)
    return max(1, min(rooms)) if rooms else None


def check(need: Connections, limits: Limits) -> tuple[Finding, ...]:
    """Everything in `limits` that is too small for `need`."""
    rules: tuple[Callable[[Connections, Limits], Iterator[Finding]], ...]
    rules = (_files, _ports, _backlog, _tracking, _memory)
    return tuple(finding for rule in rules for finding in rule(need, limits))


def require_room(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The warnings among `findings`. Raises SetupError with all errors."""
    errors = [finding.sentence for finding in findings if finding.level == "error"]
    if errors:
        raise SetupError("; ".join(errors))
    return tuple(findings)


def read_limits() -> Limits:
    """This machine's facts."""
    return parse_limits(most_files(), _read)  # workers raise theirs to that


def _files(need: Connections, limits: Limits) -> Iterator[Finding]:
    wanted = need.of_worker + RESERVED_FILES
    if limits.files is not None and wanted > limits.files:
        enough = ceil(need.total / max(1, limits.files - RESERVED_FILES))
        yield Finding(
            _level(need),
            "too few file descriptors",
            f"{_count(need)} need {wanted:,} in each worker, ulimit -Hn is {limits.files:,}",
            f"raise it to {wanted}, or use --num-workers {enough}, or a lower --max-concurrency",
        )


def _ports(need: Connections, limits: Limits) -> Iterator[Finding]:
    if limits.ports is not None and need.of_replica > limits.ports:
        yield Finding(
            _level(need),
            "too few local ports",
            f"{need.of_replica:,} connections to each replica, {EPHEMERAL.name} has {limits.ports:,}",
            "sysctl -w net.ipv4.ip_local_port_range='1024 65535', or more replicas, "
            "or a lower --max-concurrency",
        )


def _backlog(need: Connections, limits: Limits) -> Iterator[Finding]:
    # Offline connects to all at once, and only then; a Server run's connections come one by one.
    if not (need.local and need.certain) or limits.somaxconn is None:
        return
    if need.of_replica > limits.somaxconn:
        yield Finding(
            "warning",
            "engines on this machine may let connections wait for a second",
            f"{need.of_replica:,} at once to each, net.core.somaxconn is {limits.somaxconn:,}",
            f"sysctl -w net.core.somaxconn={need.of_replica}, then restart the engines",
        )


def _tracking(need: Connections, limits: Limits) -> Iterator[Finding]:
    if limits.tracked_left is not None and need.total > limits.tracked_left:
        yield Finding(
            "warning",
            "the firewall's table of connections may overflow, and packets get lost",
            f"{_count(need)}, room for {max(0, limits.tracked_left):,}",
            f"raise net.netfilter.nf_conntrack_max by {need.total}",
        )


def _memory(need: Connections, limits: Limits) -> Iterator[Finding]:
    wanted = need.total * STREAM_BYTES
    if limits.memory is not None and wanted > MEMORY_SHARE * limits.memory:
        yield Finding(
            "warning",
            "little memory for open requests",
            f"{_count(need)} need {wanted / 1e9:.1f} GB, {limits.memory / 1e9:.1f} GB are available",
            "free some, or use a lower --max-concurrency",
        )


def _level(need: Connections) -> Literal["error", "warning"]:
    return "error" if need.certain else "warning"


def _count(need: Connections) -> str:
    return f"{need.total:,} connections" + ("" if need.certain else " at the latency limits")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
