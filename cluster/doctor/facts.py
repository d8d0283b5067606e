"""Everything the checks look at. None, or nothing in a tuple: the machine does not show it.

A whole section that could not be read is named in `Facts.problems`, and nothing is concluded from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from core.limits import Limits

Vendor = Literal["amd", "nvidia"]
UNKNOWN = Limits(None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Machine:
    cpu: str = ""
    cpus: int = 0
    usable_cpus: int = 0  # that this process may run on
    quota_cpus: float | None = None  # of time, by its cgroup
    numa_nodes: int | None = None
    memory: int | None = None  # bytes
    memory_limit: int | None = None  # bytes, of its cgroup
    kernel: str = ""
    clock_source: str | None = None
    governors: tuple[str, ...] = ()  # different ones in use
    numa_balancing: bool | None = None
    container: str | None = None  # whose marks are here


@dataclass(frozen=True, slots=True)
class Allowances:
    """What the operating system allows. None for a number: not limited."""

    limits: Limits = UNKNOWN  # files: the hard limit
    files_soft: int | None = None
    locked: int | None = None  # bytes of locked memory
    processes: int | None = None
    ephemeral: tuple[int, int] | None = None  # first and last
    reserved: frozenset[int] = frozenset()  # ports that are no ephemeral ones in spite of that
    ports: Mapping[int, str] = field(default_factory=dict)  # asked for: "" or why not to be had


@dataclass(frozen=True, slots=True)
class Folder:
    what: str
    path: str
    free: int | None  # bytes
    total: int | None  # bytes
    writable: bool


@dataclass(frozen=True, slots=True)
class Disks:
    output: Folder
    caches: tuple[Folder, ...] = ()
    shm: Folder | None = None
    shm_leftovers: int = 0  # files that an ended SGLang left there


@dataclass(frozen=True, slots=True)
class Gpu:
    vendor: Vendor
    name: str
    arch: str  # "gfx950", "sm_90"
    memory: int | None = None  # bytes
    used: int | None = None  # bytes
    partition: str = ""  # "SPX/NPS1" or "MIG"
    mec_firmware: int | None = None


@dataclass(frozen=True, slots=True)
class GpuProcess:
    pid: int
    name: str
    memory: int | None  # bytes


@dataclass(frozen=True, slots=True)
class Gpus:
    found: tuple[Gpu, ...] = ()
    withheld: int = 0  # in the topology, but not for this container or cgroup
    on_bus: Mapping[Vendor, int] = field(default_factory=dict)  # compute devices on PCI
    driver: str = ""
    runtime: str = ""  # "7.2.0" of ROCm, "13.0" as the highest CUDA that the driver can do
    closed: tuple[str, ...] = ()  # device files that this user may not open
    processes: tuple[GpuProcess, ...] | None = None
    tools: tuple[str, ...] = ()
    problem: str = ""

    @property
    def vendor(self) -> Vendor | None:
        return self.found[0].vendor if self.found else None


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    location: str
    editable: bool


@dataclass(frozen=True, slots=True)
class Requirement:
    who: str
    needs: str  # "numpy<2.3"
    met: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """What an interpreter would import."""

    python: str
    version: str
    packages: tuple[Package, ...] = ()
    torch_hip: str = ""
    torch_cuda: str = ""
    requirements: tuple[Requirement, ...] | None = ()  # None: nothing there can read them

    def package(self, *names: str) -> Package | None:
        return next((package for package in self.packages if package.name in names), None)

    @property
    def torch_build(self) -> str:
        if self.package("torch") is None:
            return ""
        if self.torch_hip:
            return f"rocm {self.torch_hip}"
        return f"cuda {self.torch_cuda}" if self.torch_cuda else "cpu"


@dataclass(frozen=True, slots=True)
class Tools:
    containers: Mapping[str, str] = field(default_factory=dict)  # docker, podman, enroot: version
    slurm: str = ""  # version
    job: str = ""  # the job that we are in
    partitions: tuple[str, ...] = ()
    controller: str = ""  # why it does not answer
    pyxis: bool | None = None  # None: not to be seen from here


@dataclass(frozen=True, slots=True)
class Harness:
    """The harness's own .venv. No Python: there is none."""

    python: str = ""
    loadgen: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    env: Mapping[str, str]  # what bears on engines, secrets not in it
    machine: Machine = Machine()
    allowances: Allowances = Allowances()
    disks: Disks = Disks(Folder("output", "", None, None, False))
    gpus: Gpus = Gpus()
    stack: Stack = Stack("", "")
    tools: Tools = Tools()
    harness: Harness = Harness()
    problems: Mapping[str, str] = field(default_factory=dict)  # section: why it could not be read
