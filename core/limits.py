"""What Linux allows a process, from the texts in which it says so. Reading these is the caller's.

The client compares it with what a run will open, the doctor says it before there is any run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
TRACKED_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")
TRACKED = Path("/proc/sys/net/netfilter/nf_conntrack_count")
MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Limits:
    """This machine's facts. None: unknown, or not limited."""

    files: int | None  # descriptors that a process may have
    ports: int | None  # for connections to one address and port
    somaxconn: int | None  # connections that a server here may keep waiting for its accept
    tracked_left: int | None  # connections that the firewall can still remember
    memory: int | None  # bytes available


def parse_limits(files: int | None, read: Callable[[Path], str]) -> Limits:
    """The limits that `read` tells: a file's text, or "" where there is none."""
    first_last = numbers(read(EPHEMERAL))
    tracked, tracked_max = numbers(read(TRACKED)), numbers(read(TRACKED_MAX))
    return Limits(
        files=files,
        ports=first_last[1] - first_last[0] + 1 if len(first_last) == 2 else None,
        somaxconn=next(iter(numbers(read(SOMAXCONN))), None),
        tracked_left=tracked_max[0] - tracked[0] if tracked and tracked_max else None,
        memory=memory_bytes(read(MEMORY), "MemAvailable"),
    )


def numbers(text: str) -> list[int]:
    """The numbers of a text that holds nothing else, else none."""
    words = text.split()
    return [int(word) for word in words] if all(word.isdigit() for word in words) else []


def memory_bytes(meminfo: str, field: str) -> int | None:
    lines = (line.split() for line in meminfo.splitlines())
    return next((int(line[1]) * 1024 for line in lines if line[:1] == [f"{field}:"]), None)
