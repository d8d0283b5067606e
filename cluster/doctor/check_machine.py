"""CPU, memory, clock; limits and ports; disks."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.doctor.facts import Facts, Folder
from cluster.doctor.finding import Finding, Level, counted, gib, judged
from core.limits import EPHEMERAL

GOOD_CLOCKS = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter")
FILES = 65_535  # vLLM warns at 20,000 (measured), and wants this
PROCESSES = 4096  # eight replicas of three processes, with a thread for each of many cores
AT_ONCE = 1024  # connections to a replica: the backends' max_concurrency
WEIGHTS = int(61.4 * 2**30)  # bytes of gpt-oss-120b
MEMORY = 4 << 30  # bytes
OUTPUT = 1 << 30  # bytes
SHM = 1 << 30  # bytes; docker's own default is 64 MB


def cpu(facts: Facts) -> Iterator[Finding]:
    machine = facts.machine
    value = f"{machine.cpu}, {counted(machine.cpus, 'CPU')}"
    if machine.numa_nodes is not None:
        value += f", {counted(machine.numa_nodes, 'NUMA node')}"
    few = min(machine.usable_cpus, machine.quota_cpus or machine.usable_cpus)
    if few < machine.cpus:
        value += f"; {few:g} for this process"
    # Steps of a job are bound to one core unless they ask for more: srun inherits no --cpus-per-task.
    fault: Level | None = "WARN" if few < min(machine.cpus, 2 + len(facts.gpus.found)) else None
    if machine.cpus < 2:
        yield Finding("WARN", "CPU", value, "engine and client share one core: no measurement")
    else:
        remedy = (
            "srun --cpus-per-task, docker --cpuset-cpus, or taskset: one core a replica and two"
        )
        yield judged("CPU", value, fault, remedy)


def memory(facts: Facts) -> Iterator[Finding]:
    total, free = facts.machine.memory, facts.allowances.limits.memory
    if total is None or free is None:
        yield Finding("UNKNOWN", "memory", "/proc/meminfo does not say")
        return
    value = f"{gib(total)}, {gib(free)} available"
    limit = facts.machine.memory_limit
    if limit is not None and limit < total:
        value += f"; the cgroup's limit is {gib(limit)}"
        free = min(free, limit)
    yield judged(
        "memory", value, "WARN" if free < MEMORY else None, "end what uses it: ps --sort=-rss"
    )


def clock(facts: Facts) -> Iterator[Finding]:
    machine = facts.machine
    where = f", in a container ({machine.container})" if machine.container else ""
    value = f"{machine.kernel}, clock {machine.clock_source or 'not shown'}{where}"
    if machine.clock_source is None:
        yield Finding("UNKNOWN", "kernel", value)
    else:
        fault: Level | None = "WARN" if machine.clock_source not in GOOD_CLOCKS else None
        remedy = "each look at this clock is a system call; dmesg | grep -i tsc says why not tsc"
        yield judged("kernel", value, fault, remedy)


def governor(facts: Facts) -> Iterator[Finding]:
    found = facts.machine.governors
    if not found:
        yield Finding("UNKNOWN", "governor", "not shown (a virtual machine, mostly)")
    else:
        fault: Level | None = "WARN" if set(found) != {"performance"} else None
        remedy = "cpupower frequency-set -g performance"
        yield judged("governor", ", ".join(found), fault, remedy)


def numa_balancing(facts: Facts) -> Iterator[Finding]:
    # AMD: "the GPU might hang until the periodic balancing is finalized" (ROCm docs, vLLM on MI300X)
    if facts.gpus.vendor == "amd":
        state = facts.machine.numa_balancing
        value = {True: "on", False: "off", None: "not shown"}[state]
        if state is None:
            yield Finding("UNKNOWN", "NUMA balancing", value)
        else:
            remedy = "AMD GPUs may hang for it: sysctl -w kernel.numa_balancing=0"
            yield judged("NUMA balancing", value, "WARN" if state else None, remedy)


def files(facts: Facts) -> Iterator[Finding]:
    hard = facts.allowances.limits.files
    value = f"ulimit -n {_shown(facts.allowances.files_soft)}, hard {_shown(hard)}"
    fault: Level | None = "WARN" if hard is not None and hard < FILES else None
    yield judged(
        "open files", value, fault, f"engines want {FILES}: docker --ulimit nofile={FILES}"
    )


def processes(facts: Facts) -> Iterator[Finding]:
    found = facts.allowances.processes
    fault: Level | None = "WARN" if found is not None and found < PROCESSES else None
    yield judged("processes", f"ulimit -u {_shown(found)}", fault, "threads count: raise it")


def locked_memory(facts: Facts) -> Iterator[Finding]:
    found = facts.allowances.locked
    value = "ulimit -l " + (f"{found // 1024:,} KiB" if found is not None else "unlimited")
    fault: Level | None = "WARN" if found is not None and facts.gpus.found else None
    remedy = "docker --ulimit memlock=-1; under Slurm: LimitMEMLOCK=infinity for slurmd"
    yield judged("locked memory", value, fault, remedy)


def connections(facts: Facts) -> Iterator[Finding]:
    found = facts.allowances.limits
    if found.ports is None or found.somaxconn is None:
        yield Finding("UNKNOWN", "connections", "/proc/sys/net does not say")
        return
    few = [
        f"sysctl -w {name}"
        for value, name in (
            (found.ports, f"net.ipv4.{EPHEMERAL.name}='32768 60999'"),
            (found.somaxconn, "net.core.somaxconn=4096"),
            (found.tracked_left, "net.netfilter.nf_conntrack_max=262144"),
        )
        if value is not None and value < AT_ONCE
    ]
    value = f"{found.ports:,} local ports, somaxconn {found.somaxconn:,}"
    if found.tracked_left is not None:
        value += f", the firewall tracks {found.tracked_left:,} more"
    yield judged("connections", value, "WARN" if few else None, "; ".join(few))


def asked_ports(facts: Facts) -> Iterator[Finding]:
    found = facts.allowances
    if not found.ports:
        return
    taken = [f"{port} {why}" for port, why in found.ports.items() if why]
    if taken:
        remedy = "ss -ltnp says by whom; or start the servers with another --port"
        yield Finding("FAIL", "ports", ", ".join(taken), remedy)
        return
    low, high = found.ephemeral or (1, 0)
    loose = [port for port in found.ports if low <= port <= high and port not in found.reserved]
    value = f"{counted(len(found.ports), 'port')} free"
    if loose:
        value += f", but {loose[0]} may become some connection's own before a server has it"
    span = f"{min(loose)}-{max(loose)}" if loose else ""
    remedy = f"sysctl -w net.ipv4.ip_local_reserved_ports={span}"
    yield judged("ports", value, "WARN" if loose else None, remedy)


def output(facts: Facts) -> Iterator[Finding]:
    folder = facts.disks.output
    if not folder.writable:
        yield Finding("FAIL", "output", f"{folder.path}: not writable", "another --output-dir")
    else:
        few = folder.free is not None and folder.free < OUTPUT
        yield judged("output", _room(folder), "FAIL" if few else None, "free some, or another disk")


def caches(facts: Facts) -> Iterator[Finding]:
    # A cache of weights may be full and read-only, and right: so never more than a warning.
    for folder in facts.disks.caches:
        if not folder.writable:
            value = f"{folder.path}: not writable"
            yield Finding("WARN", f"{folder.what} cache", value, "fill it beforehand, or move it")
        elif folder.what == "weights" and facts.gpus.found:
            few = folder.free is not None and folder.free < WEIGHTS
            remedy = f"gpt-oss-120b takes {gib(WEIGHTS)} if it is not there yet: HF_HOME=..."
            yield judged("weights cache", _room(folder), "WARN" if few else None, remedy)


def shared_memory(facts: Facts) -> Iterator[Finding]:
    shm, left = facts.disks.shm, facts.disks.shm_leftovers
    if shm is None or shm.total is None:
        yield Finding("UNKNOWN", "/dev/shm", "not there")
        return
    fault: Level | None = "WARN" if shm.total < SHM else None
    remedy = "engines pass requests and answers through it: docker --shm-size 16g or --ipc=host"
    yield judged("/dev/shm", gib(shm.total), fault, remedy)
    if left:
        value = counted(left, "file") + " of ended or running SGLang servers"
        yield Finding(
            "NOTE", "/dev/shm", value, "without one running: rm /dev/shm/sglang_loads_*.shm"
        )


def _room(folder: Folder) -> str:
    return f"{folder.path}: {'?' if folder.free is None else gib(folder.free)} free"


def _shown(number: int | None) -> str:
    return "unlimited" if number is None else f"{number:,}"
