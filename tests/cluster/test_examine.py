"""The checks over made-up machines: nothing is wrong with a good one, each fault is found and told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.doctor import check_env, check_gpus, check_stack
from cluster.doctor.examine import GROUPS, examine
from cluster.doctor.facts import Facts, GpuProcess, Package, Requirement
from cluster.doctor.finding import Finding
from cluster.doctor.screen import WIDTH, counts, exit_code, render
from tests.cluster.nodes import GIB, H200, LAPTOP, MI355X, SITE, folder


def findings(facts: Facts) -> list[Finding]:
    return [finding for found in examine(facts).values() for finding in found]


def levels(facts: Facts, *which: str) -> set[tuple[str, str]]:
    return {(one.level, one.what) for one in findings(facts) if one.level in which}


def but(facts: Facts, section: str, **values: Any) -> Facts:
    """The same machine with other values in one section."""
    return replace(facts, **{section: replace(getattr(facts, section), **values)})


@pytest.mark.parametrize("facts", [MI355X, H200, LAPTOP])
def test_a_good_machine_has_no_fault(facts: Facts) -> None:
    assert levels(facts, "WARN", "FAIL", "UNKNOWN") == set()
    assert exit_code(examine(facts)) == 0
    assert counts(examine(facts))["OK"] >= 12


def gpu(facts: Facts, **values: Any) -> Facts:
    first, *others = facts.gpus.found
    return but(facts, "gpus", found=(replace(first, **values), *others))


def env(facts: Facts, **values: str) -> Facts:
    return replace(facts, env={**facts.env, **values})


def package(facts: Facts, name: str, version: str) -> Facts:
    packages = [one for one in facts.stack.packages if one.name != name]
    return but(facts, "stack", packages=(*packages, Package(name, version, SITE, False)))


def limits(facts: Facts, **values: Any) -> Facts:
    return but(facts, "allowances", limits=replace(facts.allowances.limits, **values))


FOUR = "4,5,6,7"
ONE_MI355X = env(but(MI355X, "gpus", found=MI355X.gpus.found[:1]), ROCR_VISIBLE_DEVICES="0")
BROKEN = [
    (but(LAPTOP, "machine", cpus=1, usable_cpus=1), "WARN", "CPU"),
    (but(MI355X, "machine", usable_cpus=1), "WARN", "CPU"),
    (but(MI355X, "machine", quota_cpus=2.0), "WARN", "CPU"),
    (limits(LAPTOP, memory=GIB), "WARN", "memory"),
    (limits(LAPTOP, memory=None), "UNKNOWN", "memory"),
    (but(LAPTOP, "machine", memory_limit=2 * GIB), "WARN", "memory"),
    (but(LAPTOP, "machine", clock_source="hpet"), "WARN", "kernel"),
    (but(LAPTOP, "machine", clock_source=None), "UNKNOWN", "kernel"),
    (but(LAPTOP, "machine", governors=("performance", "powersave")), "WARN", "governor"),
    (but(LAPTOP, "machine", governors=()), "UNKNOWN", "governor"),
    (but(MI355X, "machine", numa_balancing=True), "WARN", "NUMA balancing"),
    (but(MI355X, "machine", numa_balancing=None), "UNKNOWN", "NUMA balancing"),
    (but(LAPTOP, "gpus", on_bus={"amd": 8}), "FAIL", "GPUs"),
    (but(LAPTOP, "gpus", withheld=8), "FAIL", "GPUs"),
    (but(LAPTOP, "gpus", problem="nvidia-smi did not answer within 3 s"), "FAIL", "GPUs"),
    (but(MI355X, "gpus", closed=("/dev/kfd (group render)",)), "FAIL", "device files"),
    (gpu(MI355X, used=20 * GIB), "WARN", "GPU memory"),
    (gpu(MI355X, memory=36 * GIB, used=0), "WARN", "GPU memory"),
    (gpu(MI355X, used=None), "UNKNOWN", "GPU memory"),
    (but(H200, "gpus", processes=(GpuProcess(7, "python3", GIB),)), "WARN", "GPU processes"),
    (but(H200, "gpus", processes=None), "UNKNOWN", "GPU processes"),
    (gpu(MI355X, partition="CPX/NPS4"), "WARN", "partition"),
    (gpu(H200, partition="MIG"), "WARN", "partition"),
    (gpu(MI355X, mec_firmware=176), "WARN", "MEC firmware"),
    (gpu(ONE_MI355X, mec_firmware=None), "UNKNOWN", "MEC firmware"),
    (env(H200, CUDA_VISIBLE_DEVICES="1"), "FAIL", "visible GPUs"),
    (env(H200, CUDA_VISIBLE_DEVICES="NoDevFiles"), "FAIL", "visible GPUs"),
    (env(H200, CUDA_VISIBLE_DEVICES=""), "FAIL", "visible GPUs"),
    (env(MI355X, ROCR_VISIBLE_DEVICES="8"), "FAIL", "visible GPUs"),
    (env(MI355X, ROCR_VISIBLE_DEVICES=FOUR, CUDA_VISIBLE_DEVICES=FOUR), "FAIL", "visible GPUs"),
    (env(MI355X, ROCR_VISIBLE_DEVICES=FOUR, GPU_DEVICE_ORDINAL=FOUR), "FAIL", "visible GPUs"),
    (env(MI355X, HIP_VISIBLE_DEVICES="0", CUDA_VISIBLE_DEVICES="1"), "FAIL", "visible GPUs"),
    (but(H200, "stack", packages=()), "WARN", "engine"),
    (but(H200, "stack", packages=H200.stack.packages * 2), "WARN", "vllm"),
    (but(MI355X, "stack", packages=MI355X.stack.packages[:1]), "WARN", "AITER"),
    (but(MI355X, "stack", torch_hip="", torch_cuda="13.0"), "FAIL", "torch"),
    (but(H200, "stack", torch_cuda=""), "FAIL", "torch"),
    (but(H200, "gpus", runtime="12.8"), "WARN", "torch"),
    (but(H200, "gpus", runtime=""), "UNKNOWN", "torch"),
    (but(H200, "stack", requirements=(Requirement("vllm", "torch==2.13.0", False),)), "WARN", "torch"),
    (but(H200, "stack", requirements=(Requirement("vllm", "numpy<2", False),)), "FAIL", "numpy"),
    (but(H200, "stack", requirements=None), "UNKNOWN", "numpy"),
    (package(MI355X, "vllm", "0.23.0"), "FAIL", "known fault"),
    (limits(LAPTOP, files=20_000), "WARN", "open files"),
    (but(LAPTOP, "allowances", processes=1024), "WARN", "processes"),
    (but(MI355X, "allowances", locked=8 << 20), "WARN", "locked memory"),
    (limits(LAPTOP, ports=1000), "WARN", "connections"),
    (limits(LAPTOP, somaxconn=128), "WARN", "connections"),
    (limits(LAPTOP, tracked_left=10), "WARN", "connections"),
    (limits(LAPTOP, ports=None), "UNKNOWN", "connections"),
    (but(LAPTOP, "allowances", ports={30_000: "in use", 30_001: ""}), "FAIL", "ports"),
    (but(LAPTOP, "allowances", ports={40_000: ""}), "WARN", "ports"),
    (but(LAPTOP, "disks", output=folder("output", "/full", GIB // 2)), "FAIL", "output"),
    (but(LAPTOP, "disks", output=replace(LAPTOP.disks.output, writable=False)), "FAIL", "output"),
    (but(H200, "disks", caches=(folder("weights", "/small", 20 * GIB),)), "WARN", "weights cache"),
    (but(H200, "disks", caches=(replace(folder("vllm", "/ro"), writable=False),)), "WARN", "vllm cache"),
    (but(LAPTOP, "disks", shm=folder("shm", "/dev/shm", 32 << 20)), "WARN", "/dev/shm"),
    (but(LAPTOP, "disks", shm=None), "UNKNOWN", "/dev/shm"),
    (but(MI355X, "tools", partitions=(), controller="sinfo ended with 1"), "WARN", "Slurm"),
    (but(MI355X, "tools", pyxis=None), "UNKNOWN", "pyxis"),
    (but(LAPTOP, "harness", problem="ImportError"), "FAIL", "LoadGen"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "level", "what"), BROKEN)
def test_each_fault_is_found_alone_with_its_remedy(facts: Facts, level: str, what: str) -> None:
    assert levels(facts, "WARN", "FAIL", "UNKNOWN") == {(level, what)}
    assert exit_code(examine(facts)) == (level == "FAIL")
    faults = [one for one in findings(facts) if one.level in ("WARN", "FAIL")]
    assert all(one.remedy and one.value for one in faults)


def test_every_check_is_among_the_broken_machines() -> None:
    checks = {check for group in GROUPS for check, _ in group.checks}
    tell = {check_env.variables, check_env.token, check_gpus.driver, check_stack.python}
    for check in checks - tell - {check_stack.containers}:
        found = [one.level for facts, _, _ in BROKEN for one in check(facts)]
        assert {"WARN", "FAIL", "UNKNOWN"} & set(found), check.__name__


@pytest.mark.parametrize(
    "variables",
    [
        {"HSA_NO_SCRATCH_RECLAIM": "1"},
        {"ROCR_VISIBLE_DEVICES": FOUR, "HIP_VISIBLE_DEVICES": "0,1,2,3"},
        {"HIP_VISIBLE_DEVICES": FOUR, "CUDA_VISIBLE_DEVICES": FOUR},
        {"ROCR_VISIBLE_DEVICES": "GPU-1122334455667788"},
    ],
)
def test_what_is_right_is_not_blamed(variables: dict[str, str]) -> None:
    facts = gpu(MI355X, mec_firmware=176) if "HSA_NO_SCRATCH_RECLAIM" in variables else MI355X
    assert levels(env(facts, **variables), "WARN", "FAIL") == set()


def test_reserved_ports_are_safe() -> None:
    facts = but(LAPTOP, "allowances", ports={40_000: ""}, reserved=frozenset({40_000}))
    assert levels(facts, "WARN") == set()


def test_visible_gpus_are_counted() -> None:
    facts = env(MI355X, ROCR_VISIBLE_DEVICES=FOUR, HIP_VISIBLE_DEVICES="0,1")
    (found,) = (one for one in findings(facts) if one.what == "visible GPUs")
    assert found.value.startswith("2 (ROCR_VISIBLE_DEVICES=4,5,6,7, HIP_VISIBLE_DEVICES=0,1")


def test_nothing_is_concluded_from_what_was_not_read() -> None:
    facts = replace(MI355X, problems={"gpus": "not read within 4 s", "harness": "broken"})
    unknown = {one.what: one.value for one in findings(facts) if one.level == "UNKNOWN"}
    assert set(unknown) == {"gpus", "harness"}
    assert unknown["harness"] == "broken; not checked: loadgen"
    assert not {"GPUs", "visible GPUs", "torch", "LoadGen", "CPU"} & {
        one.what for one in findings(facts)
    }


@pytest.mark.parametrize("facts", [MI355X, H200, LAPTOP, *(facts for facts, _, _ in BROKEN)])
def test_the_screen_has_80_columns_and_one_page(facts: Facts) -> None:
    lines = render(examine(facts)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= 55


def test_the_screen_shows_level_value_and_remedy() -> None:
    text = render(examine(limits(LAPTOP, files=20_000)))
    assert "WARN open files      ulimit -n 1,024, hard 20,000\n" in text
    assert "                     -> engines want 65535" in text
    assert "-    GPUs            none" in text
    assert text.endswith("0 FAIL, 1 WARN, 11 OK, 0 ? (not checked)")
