"""GPUs and their drivers; whether what is installed fits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cluster.doctor.facts import Facts
from cluster.doctor.finding import Finding, Level, gib, judged

IN_USE = 0.05  # of its memory: with less free, --gpu-memory-utilization 0.95 refuses to start
WEIGHTS = int(61.4 * 2**30)  # bytes of gpt-oss-120b, measured on an H200
LOAD = {"amd": "modprobe amdgpu", "nvidia": "modprobe nvidia"}
SHOWN = 4  # processes, files


def present(facts: Facts) -> Iterator[Finding]:
    gpus = facts.gpus
    if gpus.found:
        kinds = Counter((gpu.name, gpu.arch) for gpu in gpus.found)
        value = ", ".join(f"{n} x {name} ({arch})" for (name, arch), n in kinds.items())
        if gpus.withheld:
            value += f"; {gpus.withheld} more not given to us"
        yield Finding("OK", "GPUs", value)
    elif gpus.problem:
        yield Finding("FAIL", "GPUs", gpus.problem, "the driver must answer before an engine can")
    elif gpus.withheld:
        remedy = "docker --device /dev/kfd --device /dev/dri, or ask Slurm: --gres=gpu:N"
        yield Finding("FAIL", "GPUs", f"{gpus.withheld}, none of them given to us", remedy)
    elif gpus.on_bus:
        value = ", ".join(f"{n} of {vendor} on the bus" for vendor, n in gpus.on_bus.items())
        remedy = f"{LOAD[next(iter(gpus.on_bus))]}; in a container: give it the devices"
        yield Finding("FAIL", "GPUs", f"{value}, but no driver has them", remedy)
    else:
        yield Finding("NOTE", "GPUs", "none: engines elsewhere (--server-url), or a small one here")


def driver(facts: Facts) -> Iterator[Finding]:
    gpus = facts.gpus
    if not gpus.found:
        return
    runtime = {"amd": "ROCm", "nvidia": "CUDA up to"}[gpus.found[0].vendor]
    tools = ", ".join(gpus.tools) or "no amd-smi or rocm-smi here"
    shown = f"{runtime} {gpus.runtime}" if gpus.runtime else f"{runtime}: not shown"
    yield Finding("OK", "driver", f"{gpus.driver}, {shown}; {tools}")


def access(facts: Facts) -> Iterator[Finding]:
    gpus = facts.gpus
    if gpus.vendor == "amd" or gpus.withheld:
        closed = gpus.closed
        value = ", ".join(closed[:SHOWN]) + (" ..." if len(closed) > SHOWN else "")
        remedy = "usermod -aG render,video $USER and log in again; docker --group-add video"
        value = f"not to be opened: {value}" if closed else "/dev/kfd and /dev/dri can be opened"
        yield judged("device files", value, "FAIL" if closed else None, remedy)


def memory(facts: Facts) -> Iterator[Finding]:
    gpus = facts.gpus
    known = [gpu for gpu in gpus.found if gpu.memory is not None and gpu.used is not None]
    if len(known) < len(gpus.found):
        yield Finding("UNKNOWN", "GPU memory", "not shown by the driver")
    elif known:
        sizes = sorted({gpu.memory or 0 for gpu in known})
        busy = [n for n, gpu in enumerate(known) if (gpu.used or 0) > IN_USE * (gpu.memory or 0)]
        free = min((gpu.memory or 0) - (gpu.used or 0) for gpu in known)
        value = f"{' or '.join(map(gib, sizes))} each, at least {gib(free)} free"
        if busy:
            value += f"; in use: GPU {', '.join(map(str, busy))}"
        fault: Level | None = "WARN" if busy else None
        remedy = "end the processes below, or start no replica there"
        if sizes[0] < WEIGHTS:
            fault, remedy = (
                "WARN",
                f"gpt-oss-120b's weights take {gib(WEIGHTS)}: not on one such GPU",
            )
        yield judged("GPU memory", value, fault, remedy)


def processes(facts: Facts) -> Iterator[Finding]:
    found = facts.gpus.processes
    if not facts.gpus.found:
        return
    if found is None:
        yield Finding("UNKNOWN", "GPU processes", "the driver does not say")
        return
    shown = [
        f"{one.name or '?'} ({one.pid}) {'' if one.memory is None else gib(one.memory)}".strip()
        for one in found[:SHOWN]
    ]
    value = ", ".join(shown) + (f", {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    remedy = "not yours, or left over? They share what is measured"
    # A container sees neither other containers' processes nor that it does not see them.
    yield judged("GPU processes", value or "none seen", "WARN" if found else None, remedy)


def partition(facts: Facts) -> Iterator[Finding]:
    kinds = Counter(gpu.partition for gpu in facts.gpus.found if gpu.partition)
    if kinds:
        value = ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
        whole = all(kind.startswith("SPX") for kind in kinds)
        remedy = "parts of a GPU have parts of its memory: amd-smi set --compute-partition SPX"
        if facts.gpus.vendor == "nvidia":
            remedy = "parts of a GPU have parts of its memory: nvidia-smi -mig 0"
        yield judged("partition", value, None if whole else "WARN", remedy)


def torch_build(facts: Facts) -> Iterator[Finding]:
    build, vendor = facts.stack.torch_build, facts.gpus.vendor
    torch = facts.stack.package("torch")
    if torch is None:
        return
    wanted = {"amd": "rocm", "nvidia": "cuda"}.get(vendor or "", build)
    value = f"{torch.version}, built for {build}"
    if not build.startswith(wanted):
        remedy = f"this machine's GPUs need a build for {wanted}: another --python, or reinstall"
        yield Finding("FAIL", "torch", value, remedy)
    elif vendor == "nvidia" and _major(facts.stack.torch_cuda) > _major(facts.gpus.runtime):
        value += f"; the driver can do CUDA {facts.gpus.runtime}"
        remedy = "a newer driver, NVIDIA's cuda-compat package, or an older image"
        yield Finding("WARN" if facts.gpus.runtime else "UNKNOWN", "torch", value, remedy)
    else:
        yield Finding("OK", "torch", value)


def aiter(facts: Facts) -> Iterator[Finding]:
    found = facts.stack.package("amd-aiter", "aiter")
    if found is not None:
        how = "editable" if found.editable else "installed"
        yield Finding("OK", "AITER", f"{found.version}, {how}, {found.location}")
    elif facts.gpus.vendor == "amd" and facts.stack.package("vllm", "sglang"):
        remedy = "ROCm's own images have it; without it the engines' AITER switches do nothing"
        yield Finding("WARN", "AITER", "not there", remedy)


def firmware(facts: Facts) -> Iterator[Finding]:
    """vllm-project/recipes, GPT-OSS.md (2026-08): a switch for MI355X with MEC firmware before 177."""
    versions = {gpu.mec_firmware for gpu in facts.gpus.found if gpu.arch == "gfx950"}
    known = sorted(version for version in versions if version is not None)
    if not versions:
        return
    if not known:
        yield Finding("UNKNOWN", "MEC firmware", "not shown", "rocm-smi --showfw | grep MEC")
        return
    old = known[0] < 177 and facts.env.get("HSA_NO_SCRATCH_RECLAIM") != "1"
    value = ", ".join(map(str, known))
    yield judged("MEC firmware", value, "WARN" if old else None, "export HSA_NO_SCRATCH_RECLAIM=1")


def _major(version: str) -> int:
    first = version.split(".")[0]
    return int(first) if first.isdigit() else 0
