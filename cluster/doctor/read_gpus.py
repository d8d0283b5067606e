"""GPUs: AMD's from the kernel's own files, which also answer when ROCm is not installed; NVIDIA's
from nvidia-smi, because their driver tells everything else through its library."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cluster.doctor.facts import Gpu, GpuProcess, Gpus, Vendor
from cluster.doctor.tell import Told, folders, read, tell, tell_all

VENDORS: dict[str, Vendor] = {"0x1002": "amd", "0x10de": "nvidia"}
COMPUTE = ("0x0302", "0x0380", "0x1200")  # PCI classes: 3D, other display, accelerator
KFD = "sys/class/kfd/kfd"
SMI = ("driver_version", "name", "memory.total", "memory.used", "compute_cap", "mig.mode.current")
MIB = 1 << 20


def read_gpus(root: Path = Path("/")) -> Gpus:
    bus = _on_bus(root)
    if (root / KFD).exists():
        return _amd(root, bus)
    if shutil.which("nvidia-smi"):
        return _nvidia(bus)
    driver = re.search(r"Module\s+(\S+)", read(root / "proc/driver/nvidia/version"))
    problem = "the driver is loaded, but there is no nvidia-smi here" if driver else ""
    return Gpus(on_bus=bus, driver=f"nvidia {driver[1]}" if driver else "", problem=problem)


def _on_bus(root: Path) -> dict[Vendor, int]:
    devices = folders(root / "sys/bus/pci/devices")
    compute = (path for path in devices if read(path / "class").startswith(COMPUTE))
    vendors = (VENDORS.get(read(path / "vendor")) for path in compute)
    return dict(Counter(vendor for vendor in vendors if vendor))


# AMD ----------------------------------------------------------------------------------------------


def _amd(root: Path, bus: dict[Vendor, int]) -> Gpus:
    told = tell(["amd-smi", "version"]).text if shutil.which("amd-smi") else ""
    version = read(root / "opt/rocm/.info/version") or _after("ROCm version:", told)
    driver = read(root / "sys/module/amdgpu/version") or _after("amdgpu version:", told)
    kfd = root / KFD
    nodes = [_node(path, root) for path in _gpu_nodes(kfd / "topology/nodes")]
    return Gpus(
        found=tuple(gpu for gpu in nodes if gpu is not None),
        withheld=nodes.count(None),
        on_bus=bus,
        driver=f"amdgpu {driver or '(of this kernel)'}",
        runtime=version.split("-")[0],
        closed=tuple(_closed([root / "dev/kfd", *_render_nodes(root)])),
        processes=tuple(_amd_processes(kfd, root)) if (kfd / "proc").is_dir() else None,
        tools=tuple(name for name in ("amd-smi", "rocm-smi") if shutil.which(name)),
    )


def _after(label: str, text: str) -> str:
    found = re.search(re.escape(label) + r"\s*([^\s|]+)", text)
    return found[1] if found else ""


def _gpu_nodes(nodes: Path) -> Iterator[Path]:
    """In HIP's order. CPUs are nodes, too, with the gpu_id 0; a withheld GPU shows no gpu_id."""
    for path in sorted(folders(nodes), key=lambda path: int(path.name)):
        if read(path / "gpu_id") != "0":
            yield path


def _node(path: Path, root: Path) -> Gpu | None:
    words = dict(line.split()[:2] for line in read(path / "properties").splitlines())
    if not words.get("gfx_target_version", "").isdigit():
        return None
    version = int(words["gfx_target_version"])  # 90500: 9, 5 and 0, the last one in hexadecimal
    arch = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
    device = root / f"sys/class/drm/renderD{words.get('drm_render_minor', '')}/device"
    parts = (read(device / f"current_{kind}_partition") for kind in ("compute", "memory"))
    firmware = words.get("fw_version", "")
    return Gpu(
        vendor="amd",
        name=read(device / "product_name") or read(path / "name") or arch,
        arch=arch,
        memory=_whole(read(device / "mem_info_vram_total")),
        used=_whole(read(device / "mem_info_vram_used")),
        partition="/".join(filter(None, parts)),
        mec_firmware=int(firmware) if firmware.isdigit() else None,
    )


def _render_nodes(root: Path) -> list[Path]:
    return [path for path in folders(root / "dev/dri") if path.name.startswith("renderD")]


def _closed(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        if not path.exists():
            yield f"{path} is missing"
        elif not os.access(path, os.R_OK | os.W_OK):
            yield f"{path} (group {_group(path)})"


def _group(path: Path) -> str:
    try:
        return path.group()
    except (KeyError, OSError):
        return str(path.stat().st_gid)  # inside containers the host's groups have no names


def _amd_processes(kfd: Path, root: Path) -> Iterator[GpuProcess]:
    for path in folders(kfd / "proc"):
        sizes = [_whole(read(file)) for file in path.glob("vram_*")]
        used = sum(size for size in sizes if size is not None)
        if path.name.isdigit() and used:
            yield GpuProcess(int(path.name), read(root / f"proc/{path.name}/comm"), used)


# NVIDIA -------------------------------------------------------------------------------------------


def _nvidia(bus: dict[Vendor, int]) -> Gpus:
    form = "--format=csv,noheader,nounits"
    told = tell_all(
        {
            "gpus": ["nvidia-smi", f"--query-gpu={','.join(SMI)}", form],
            "apps": ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", form],
            "versions": ["nvidia-smi", "--version"],
        }
    )
    return parse_nvidia(told["gpus"], told["apps"], told["versions"], bus)


def parse_nvidia(gpus: Told, apps: Told, versions: Told, bus: dict[Vendor, int]) -> Gpus:
    """What nvidia-smi's three answers say."""
    rows = [_cells(line) for line in gpus.text.splitlines()]
    cuda = re.search(r"CUDA Version\s*:\s*(\d\S*)", versions.text)
    return Gpus(
        found=tuple(_nvidia_gpu(cells) for cells in rows),
        on_bus=bus,
        driver=f"nvidia {rows[0][0]}" if rows else "",
        runtime=cuda[1] if cuda else "",
        processes=None if apps.problem else tuple(map(_nvidia_process, apps.text.splitlines())),
        tools=("nvidia-smi",),
        problem=gpus.problem,
    )


def _nvidia_process(line: str) -> GpuProcess:
    pid, _, rest = line.partition(",")
    name, _, used = rest.rpartition(",")  # a path may hold commas
    return GpuProcess(int(pid), Path(name.strip()).name, _whole(used.strip(), MIB))


def _nvidia_gpu(cells: list[str]) -> Gpu:
    _, name, memory, used, capability, mig = cells
    return Gpu(
        vendor="nvidia",
        name=name,
        arch="sm_" + capability.replace(".", ""),
        memory=_whole(memory, MIB),
        used=_whole(used, MIB),
        partition="MIG" if mig == "Enabled" else "",
    )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")]


def _whole(text: str, unit: int = 1) -> int | None:
    return int(text) * unit if text.isdigit() else None
