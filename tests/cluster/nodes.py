"""Facts as the doctor would gather them: an MI355X node, an H200 node, a laptop. All in order.

And `write`, for readers of made-up files.
"""

from __future__ import annotations

from pathlib import Path

from cluster.doctor.facts import (
    Allowances,
    Disks,
    Facts,
    Folder,
    Gpu,
    Gpus,
    Harness,
    Machine,
    Package,
    Requirement,
    Stack,
    Tools,
)
from core.limits import Limits

GIB = 1 << 30
SITE = "/usr/local/lib/python3.12/dist-packages"


def folder(what: str, path: str, free: int = 900 * GIB) -> Folder:
    return Folder(what, path, free, 2 * free, True)


ALLOWANCES = Allowances(
    limits=Limits(1_048_576, 28_232, 4096, 262_144, 200 * GIB),
    files_soft=1024,
    ephemeral=(32_768, 60_999),
)
MI355X = Facts(
    env={"VLLM_ROCM_USE_AITER": "1", "ROCR_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"},
    machine=Machine(
        cpu="AMD EPYC 9575F 64-Core Processor",
        cpus=256,
        usable_cpus=256,
        numa_nodes=2,
        memory=3072 * GIB,
        kernel="6.8.0-60-generic",
        clock_source="tsc",
        governors=("performance",),
        numa_balancing=False,
    ),
    allowances=ALLOWANCES,
    disks=Disks(
        folder("output", "output"),
        (folder("weights", "/data/hub"), folder("vllm", "/data/vllm")),
        folder("shm", "/dev/shm"),
    ),
    gpus=Gpus(
        found=(Gpu("amd", "AMD Instinct MI355X", "gfx950", 288 * GIB, GIB, "SPX/NPS1", 177),) * 8,
        on_bus={"amd": 8},
        driver="amdgpu 6.14.14",
        runtime="7.2.1",
        processes=(),
        tools=("amd-smi", "rocm-smi"),
    ),
    stack=Stack(
        python="/usr/bin/python3",
        version="3.12.3",
        packages=(
            Package("vllm", "0.22.1+rocm72", "/workspace/vllm", True),
            Package("amd-aiter", "0.1.9.dev3", SITE, False),
            Package("torch", "2.11.0+rocm7.2", SITE, False),
            Package("numpy", "1.26.4", SITE, False),
        ),
        torch_hip="7.2.1",
        requirements=(Requirement("vllm", "numpy<2", True), Requirement("vllm", "torch", True)),
    ),
    tools=Tools(
        {"docker": "Docker version 28.2.2"}, "22.05.8", "17", ("compute up 2 gpu:8",), "", True
    ),
    harness=Harness("3.11.7", "6.0.17"),
)
H200 = Facts(
    env={"CUDA_VISIBLE_DEVICES": "0"},
    machine=Machine(
        cpu="Intel(R) Xeon(R) Processor",
        cpus=16,
        usable_cpus=16,
        numa_nodes=1,
        memory=128 * GIB,
        kernel="6.8.0",
        clock_source="tsc",
        governors=("performance",),
        numa_balancing=True,
        container="docker",
    ),
    allowances=ALLOWANCES,
    disks=MI355X.disks,
    gpus=Gpus(
        found=(Gpu("nvidia", "NVIDIA H200", "sm_90", 143_771 << 20, 0),),
        on_bus={"nvidia": 1},
        driver="nvidia 580.159.04",
        runtime="13.0",
        processes=(),
        tools=("nvidia-smi",),
    ),
    stack=Stack(
        python="/usr/bin/python3",
        version="3.12.3",
        packages=(
            Package("vllm", "0.26.0", SITE, False),
            Package("flashinfer-python", "0.6.0", SITE, False),
            Package("torch", "2.11.0", SITE, False),
            Package("numpy", "2.3.1", SITE, False),
        ),
        torch_cuda="13.0",
    ),
    harness=Harness("3.12.3", "6.0.17"),
)
LAPTOP = Facts(
    env={},
    machine=Machine("Some CPU", 8, 8, None, 1, 16 * GIB, None, "6.1.0", "tsc", ("performance",)),
    allowances=ALLOWANCES,
    disks=Disks(folder("output", "output"), (), folder("shm", "/dev/shm", 8 * GIB)),
    stack=Stack("/usr/bin/python3", "3.11.2"),
    harness=Harness("3.11.2", "6.0.17"),
)


def write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
