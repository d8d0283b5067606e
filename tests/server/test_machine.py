"""What is found out: the platform and the GPU from the kernel's files, the engine from its folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.errors import SetupError
from server import installed, machine
from server.installed import Engine
from server.machine import Machine, look


@pytest.fixture(autouse=True)
def no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_lines", lambda *_: [])


def write(file: Path, text: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def rocm(root: Path, *targets: int) -> None:
    write(root / "dev/kfd")
    for number, target in enumerate((0, *targets)):  # node 0 is the CPU
        text = f"cpu_cores_count 0\ngfx_target_version {target}\n"
        write(root / f"sys/class/kfd/kfd/topology/nodes/{number}/properties", text)


def test_rocm_from_the_kernels_topology(tmp_path: Path) -> None:
    rocm(tmp_path, *[90500] * 8)
    assert look(root=tmp_path) == Machine("rocm", "MI355X", 8)


@pytest.mark.parametrize(("target", "name"), [(90402, "MI300X"), (90010, "gfx90a")])
def test_other_gpus_have_a_name(tmp_path: Path, target: int, name: str) -> None:
    rocm(tmp_path, target)
    assert look(root=tmp_path).gpu == name


def test_the_tools_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["GPU[0] : Card Series: AMD Instinct MI350X"]
    monkeypatch.setattr(machine, "_lines", lambda *_: said)
    rocm(tmp_path, 90500)
    assert look(root=tmp_path).gpu == "MI350X"


def test_cuda_without_its_tool(tmp_path: Path) -> None:
    write(tmp_path / "proc/driver/nvidia/version", "NVRM")
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        write(tmp_path / f"proc/driver/nvidia/gpus/{bus}/information", "Model: \t NVIDIA H200\n")
    assert look(root=tmp_path) == Machine("cuda", "NVIDIA H200", 2)


def test_no_gpu(tmp_path: Path) -> None:
    assert look(root=tmp_path) == Machine("cpu", None, 0)


def test_the_user_is_believed(tmp_path: Path) -> None:
    rocm(tmp_path, 90500)
    assert look("cpu", root=tmp_path) == Machine("cpu", None, 0)
    assert look(None, "MI325X", root=tmp_path) == Machine("rocm", "MI325X", 1)


def package(root: Path, name: str, version: str, code: str) -> None:
    """An installed engine that must not be imported."""
    write(root / name / "__init__.py", "raise SystemExit('imported')")
    write(root / name / "envs.py", code)
    info = root / f"{name}-{version}.dist-info"
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_an_installed_engine_is_read_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "vllm", "0.99.1", 'environment_variables = {"VLLM_ONE": 1, "VLLM_TWO_": 2}')
    package(tmp_path, "sglang", "0.7", "SGLANG_X = EnvBool(False)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    vllm = installed.find("vllm", sys.executable, ())
    assert vllm == Engine("vllm", "0.99.1", sys.executable, tmp_path / "vllm")
    assert installed.known_variables(vllm) == {"VLLM_ONE", "VLLM_TWO_"}
    sglang = installed.find(None, sys.executable, ("sglang", "vllm"))
    assert (sglang.name, sglang.version) == ("sglang", "0.7")
    assert installed.known_variables(sglang) == {"SGLANG_X"}


def test_no_engine_says_where_it_looked() -> None:
    with pytest.raises(SetupError, match=f"{sys.executable}.*--python PATH"):
        installed.find("sglang", sys.executable, ())
    with pytest.raises(SetupError, match="/nowhere/python3"):
        installed.find(None, "/nowhere/python3", ("vllm",))
