"""GPUs from made-up kernel files and from nvidia-smi's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.doctor import read_gpus as gpus_module
from cluster.doctor.facts import Gpu, GpuProcess
from cluster.doctor.read_gpus import parse_nvidia, read_gpus
from cluster.doctor.tell import Told
from tests.cluster.nodes import write


def amd_tree(root: Path) -> None:
    nodes = "sys/class/kfd/kfd/topology/nodes"
    properties = "gfx_target_version 90500\nfw_version 177\ndrm_render_minor 128\nvendor_id 4098"
    write(
        root,
        {
            f"{nodes}/0/gpu_id": 0,  # the CPU
            f"{nodes}/0/properties": "cpu_cores_count 64",
            f"{nodes}/10/gpu_id": 4711,
            f"{nodes}/10/properties": properties.replace("90500", "90010").replace("128", "129"),
            f"{nodes}/2/gpu_id": 4712,
            f"{nodes}/2/properties": properties,
            f"{nodes}/11/properties": "",  # the cgroup does not let us read this one
            "sys/class/kfd/kfd/proc/4242/vram_4712": 3 << 30,
            "sys/class/kfd/kfd/proc/17/vram_4712": 0,
            "proc/4242/comm": "python3",
            "sys/class/drm/renderD128/device/mem_info_vram_total": 288 << 30,
            "sys/class/drm/renderD128/device/mem_info_vram_used": 3 << 30,
            "sys/class/drm/renderD128/device/product_name": "AMD Instinct MI355X",
            "sys/class/drm/renderD128/device/current_compute_partition": "SPX",
            "sys/class/drm/renderD128/device/current_memory_partition": "NPS1",
            "sys/module/amdgpu/version": "6.14.14",
            "opt/rocm/.info/version": "7.2.0-63",
            "dev/dri/renderD128": "",
            "sys/bus/pci/devices/0000:05:00.0/class": "0x120000",
            "sys/bus/pci/devices/0000:05:00.0/vendor": "0x1002",
            "sys/bus/pci/devices/0000:06:00.0/class": "0x030000",  # a screen's
            "sys/bus/pci/devices/0000:06:00.0/vendor": "0x1002",
        },
    )


def test_amd_gpus_are_read_from_the_kernel(tmp_path: Path) -> None:
    amd_tree(tmp_path)
    found = read_gpus(tmp_path)
    first = Gpu("amd", "AMD Instinct MI355X", "gfx950", 288 << 30, 3 << 30, "SPX/NPS1", 177)
    assert found.found == (first, Gpu("amd", "gfx90a", "gfx90a", mec_firmware=177))
    assert (found.withheld, found.on_bus) == (1, {"amd": 1})
    assert (found.driver, found.runtime) == ("amdgpu 6.14.14", "7.2.0")
    assert found.processes == (GpuProcess(4242, "python3", 3 << 30),)
    assert found.closed == (f"{tmp_path}/dev/kfd is missing",)


def test_a_device_file_of_another_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    amd_tree(tmp_path)
    write(tmp_path, {"dev/kfd": ""})
    monkeypatch.setattr(gpus_module.os, "access", lambda path, mode: path.name != "kfd")
    (closed,) = read_gpus(tmp_path).closed
    assert closed.startswith(f"{tmp_path}/dev/kfd (group ")


def test_a_machine_without_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus_module.shutil, "which", lambda name: None)
    assert read_gpus(tmp_path) == gpus_module.Gpus()
    write(
        tmp_path, {"proc/driver/nvidia/version": "NVRM version: NVIDIA Kernel Module  580.159.04"}
    )
    assert "no nvidia-smi" in read_gpus(tmp_path).problem


def test_nvidia_gpus_as_nvidia_smi_tells() -> None:
    gpus = Told("580.159.04, NVIDIA H200, 143771, 10752, 9.0, Disabled\n")  # of a real one
    apps = Told("460, /opt/a, b/python3, 10240\n461, [Not Found], [N/A]\n")
    found = parse_nvidia(gpus, apps, Told("CUDA Version        : 13.0\n"), {})
    assert found.found == (Gpu("nvidia", "NVIDIA H200", "sm_90", 143771 << 20, 10752 << 20),)
    assert (found.driver, found.runtime) == ("nvidia 580.159.04", "13.0")
    assert found.processes is not None
    assert found.processes[0] == GpuProcess(460, "python3", 10240 << 20)
    assert found.processes[1].memory is None


def test_a_silent_driver_is_no_machine_without_gpus() -> None:
    silent = Told(problem="nvidia-smi did not answer within 3 s")
    found = parse_nvidia(silent, silent, silent, {})
    assert (found.found, found.processes, found.problem) == ((), None, silent.problem)
