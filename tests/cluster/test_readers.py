"""Readers over made-up files and answers, and over this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster.doctor.facts import Package
from cluster.doctor.gather import read_sections
from cluster.doctor.read_disks import cache_folders, read_disks
from cluster.doctor.read_env import HIDDEN, read_env
from cluster.doctor.read_machine import parse_ports, read_allowances, read_machine
from cluster.doctor.read_programs import PROBE, parse_stack, read_harness, read_stack, read_tools
from cluster.doctor.tell import Told, tell
from tests.cluster.nodes import write


def test_secrets_are_not_read() -> None:
    found = read_env(
        {
            "HF_TOKEN": "a",
            "VLLM_API_KEY": "b",
            "SGLANG_SECRET_X": "c",
            "HF_ENDPOINT": "https://user:d@host/x",
            "VLLM_ROCM_USE_AITER": "1",
            "VLLM_MAX_TOKENS": "5",
            "HOME": "/e",
        }
    )
    assert [name for name in found if found[name] == HIDDEN] == [
        *("HF_TOKEN", "SGLANG_SECRET_X", "VLLM_API_KEY")
    ]
    assert found["HF_ENDPOINT"] == "https://***@host/x"
    assert (found["VLLM_MAX_TOKENS"], found["VLLM_ROCM_USE_AITER"]) == ("5", "1")
    assert "HOME" not in found


def test_the_cgroup_limits_cpus_and_memory(tmp_path: Path) -> None:
    write(tmp_path, {"sys/fs/cgroup/cpu.max": "150000 100000", "sys/fs/cgroup/memory.max": 5 << 30})
    found = read_machine(tmp_path)
    assert (found.quota_cpus, found.memory_limit) == (1.5, 5 << 30)
    write(tmp_path, {"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"})
    found = read_machine(tmp_path)
    assert (found.quota_cpus, found.memory_limit) == (None, None)
    assert (found.numa_nodes, found.clock_source, found.governors) == (None, None, ())


def test_ports() -> None:
    assert list(parse_ports("30000-30002,40000")) == [30000, 30001, 30002, 40000]
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        port = server.getsockname()[1]
        assert read_allowances([port]).ports == {port: "in use"}
    assert read_allowances([port]).ports == {port: ""}


def test_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    found = read_disks(tmp_path / "a/b", {"HF_HOME": str(tmp_path)})
    assert found.output.writable and found.output.free
    (tmp_path / "file").touch()
    assert not read_disks(tmp_path / "file/a", {}).output.writable
    caches = cache_folders({"XDG_CACHE_HOME": "/c", "VLLM_CACHE_ROOT": "/v"}, Path("/home/u"))
    assert list(map(str, caches.values())) == ["/c/huggingface/hub", "/v", "/home/u/.triton"]


def fake_package(site: Path, name: str, version: str, *lines: str, direct: str = "") -> None:
    info = site / f"{name}-{version}.dist-info"
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {line}\n" for line in lines
    )
    write(info, {"METADATA": text} | ({"direct_url.json": direct} if direct else {}))


def test_the_probe_reads_metadata_and_imports_nothing(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    editable = json.dumps({"url": "file:///workspace/vllm", "dir_info": {"editable": True}})
    extra = "numpy>3; extra == 'x'"
    fake_package(site, "vllm", "0.22.1", "numpy<2", extra, "torch==2.11.0", direct=editable)
    fake_package(site, "numpy", "2.3.1")
    fake_package(site, "torch", "2.11.0+rocm7.2")
    fake_package(tmp_path / "sglang/python", "sglang", "0.5.12")
    bomb = "raise SystemExit('imported')"
    write(site, {"vllm/__init__.py": bomb, "torch/__init__.py": bomb})
    write(site, {"torch/version.py": "cuda: Optional[str] = None\nhip: Optional[str] = '7.2.1'"})
    told = subprocess.run(
        [sys.executable, str(PROBE)],
        env={**os.environ, "PYTHONPATH": f"{site}:{tmp_path}/sglang/python"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = parse_stack(told.stdout)
    assert found.package("vllm") == Package("vllm", "0.22.1", "/workspace/vllm", True)
    assert found.package("sglang") == Package(
        "sglang", "0.5.12", str(tmp_path / "sglang/python"), True
    )
    assert found.torch_build == "rocm 7.2.1"
    assert found.requirements is not None
    wants = {(one.needs, one.met) for one in found.requirements if one.who == "vllm"}
    assert wants == {("numpy<2", False), ("torch==2.11.0", True)}


def test_no_such_interpreter() -> None:
    with pytest.raises(OSError, match="there is no /no/python"):
        read_stack("/no/python")


def test_programs_that_do_not_answer(tmp_path: Path) -> None:
    assert "did not answer within 0.2 s" in tell(["sh", "-c", "sleep 60 & sleep 60"], 0.2).problem
    assert tell(["sh", "-c", "echo a >&2; echo why >&2; exit 9"]).problem == "sh ended with 9: why"
    assert tell(["sh", "-c", "echo good"]) == Told("good\n")


def test_a_reader_that_hangs_or_fails_costs_its_own_section() -> None:
    never = threading.Event()
    readers = {"good": lambda: 1, "late": never.wait, "bad": lambda: int("x")}
    found, problems = read_sections(readers, 0.2)
    never.set()
    assert found == {"good": 1}
    assert problems["late"] == "not read within 0.2 s"
    assert "invalid literal" in problems["bad"]


def test_slurm_and_pyxis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    write(
        programs, {"sinfo": '#!/bin/sh\n[ "$1" = --version ] && echo slurm 22.05.8 || echo compute'}
    )
    (programs / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin")
    write(tmp_path, {"slurm.conf": "ClusterName=x", "plugstack.conf.d/pyxis.conf": "#none"})
    conf = {"SLURM_CONF": str(tmp_path / "slurm.conf"), "SLURM_JOB_ID": "17"}
    found = read_tools(conf)
    assert (found.slurm, found.partitions, found.job) == ("22.05.8", ("compute",), "17")
    assert found.pyxis is False
    write(tmp_path, {"plugstack.conf.d/pyxis.conf": "required /usr/lib/spank_pyxis.so"})
    assert read_tools(conf).pyxis is True
    nowhere = read_tools({"SLURM_CONF": str(tmp_path / "other")})
    assert (nowhere.partitions, nowhere.controller) == ((), "there is no slurm.conf here")


def test_the_harness_and_its_loadgen(tmp_path: Path) -> None:
    assert read_harness(tmp_path).python == ""
    found = read_harness()
    assert found.problem == "" and found.loadgen.count(".") == 2
