"""CPU, memory, clock and limits, from /proc and /sys."""

from __future__ import annotations

import errno
import os
import platform
import re
import resource
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.doctor.facts import Allowances, Machine
from cluster.doctor.tell import folders, read
from core.limits import EPHEMERAL, MEMORY, memory_bytes, numbers, parse_limits

CLOCK = "sys/devices/system/clocksource/clocksource0/current_clocksource"
RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
CONTAINERS = {".dockerenv": "docker", "run/.containerenv": "podman", ".singularity.d": "apptainer"}
UNLIMITED = 1 << 60  # cgroup v1 says "not limited" with a number near 2**63


def read_machine(root: Path = Path("/")) -> Machine:
    cpuinfo = re.search(r"^model name\s*:\s*(.+)", read(root / "proc/cpuinfo"), re.MULTILINE)
    balancing = read(root / "proc/sys/kernel/numa_balancing")
    cpu_folder = root / "sys/devices/system/cpu"
    governors = {read(path / "cpufreq/scaling_governor") for path in folders(cpu_folder)}
    nodes = [path for path in folders(root / "sys/devices/system/node") if path.name[4:].isdigit()]
    return Machine(
        cpu=cpuinfo[1] if cpuinfo else platform.machine(),
        cpus=os.cpu_count() or 0,
        usable_cpus=len(os.sched_getaffinity(0)),
        quota_cpus=_quota(root / "sys/fs/cgroup"),
        numa_nodes=len(nodes) or None,
        memory=memory_bytes(read(root / MEMORY.relative_to("/")), "MemTotal"),
        memory_limit=_memory_limit(root / "sys/fs/cgroup"),
        kernel=platform.release(),
        clock_source=read(root / CLOCK) or None,
        governors=tuple(sorted(governors - {""})),
        numa_balancing=balancing != "0" if balancing else None,
        container=next((name for mark, name in CONTAINERS.items() if (root / mark).exists()), None),
    )


def _quota(cgroup: Path) -> float | None:
    words = read(cgroup / "cpu.max").split() or [
        read(cgroup / "cpu/cpu.cfs_quota_us"),
        read(cgroup / "cpu/cpu.cfs_period_us"),
    ]
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        return int(words[0]) / int(words[1])
    return None  # "max 100000", "-1", or no such file


def _memory_limit(cgroup: Path) -> int | None:
    text = read(cgroup / "memory.max") or read(cgroup / "memory/memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def read_allowances(ports: Sequence[int]) -> Allowances:
    soft, hard = map(_limited, resource.getrlimit(resource.RLIMIT_NOFILE))
    first_last = numbers(read(EPHEMERAL))
    return Allowances(
        limits=parse_limits(hard, read),
        files_soft=soft,
        locked=_limited(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]),
        processes=_limited(resource.getrlimit(resource.RLIMIT_NPROC)[0]),
        ephemeral=(first_last[0], first_last[1]) if len(first_last) == 2 else None,
        reserved=frozenset(parse_ports(read(RESERVED))),
        ports={port: _taken(port) for port in ports},
    )


def _limited(value: int) -> int | None:
    return None if value == resource.RLIM_INFINITY else value


def parse_ports(text: str) -> Iterator[int]:
    """30000-30002,30010 as its numbers. Raises ValueError."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _taken(port: int) -> str:
    """Why a server could not listen there, "" if it could. Nothing listens while we ask."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            one.bind(("", port))
        except OSError as error:
            return "in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return ""
