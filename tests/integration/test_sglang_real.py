"""Real SGLang, where there is one: SGLANG_PYTHON names an interpreter that has it, or SGLANG_URL
servers that run (comma-separated). SGLang serves gpt-oss on GPUs only: its attention backends for it
need one, or AMX. So most machines have neither, and say so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_engine import RealEngine, twin
from tests.replicas import Replicas, run_server

__all__ = ["twin"]
pytestmark = [pytest.mark.real_engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    if url := os.environ.get("SGLANG_URL"):
        yield Replicas(tuple(url.split(",")))
        return
    if not (python := os.environ.get("SGLANG_PYTHON")):
        pytest.skip("no SGLang here: set SGLANG_PYTHON (an interpreter that has it) or SGLANG_URL")
    folder = tmp_path_factory.mktemp("sglang")
    with run_server("sglang", Path(python), folder, "--", "--context-length=2048") as started:
        yield started


class TestSGLang(RealEngine):
    """In the checkpoint's bfloat16, for which its kernels are made; otherwise as all."""

    dtype, tolerance = "bfloat16", 0.5
