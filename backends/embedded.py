"""The embedded engine: a tiny model in a child process, spoken to in vLLM's dialect.

It makes a first run possible without a server or a GPU. The child ends when its standard input
closes, so it cannot outlive the run, however the run ends.
"""

from __future__ import annotations

import importlib.util
import json
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backends.vllm import VLLM
from core.errors import SetupError

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0
ROOT = Path(__file__).resolve().parent.parent


class Embedded(VLLM):
    """vLLM's dialect, served by `python -m engine model`."""

    name = "embedded"
    max_concurrency = 32


@contextmanager
def embedded_engine(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Run the embedded engine for the duration of the block; yields its URL.

    Raises SetupError when its libraries are missing or it does not start.
    """
    if (
        importlib.util.find_spec("torch") is None
        or importlib.util.find_spec("transformers") is None
    ):
        raise SetupError(
            "the embedded engine needs torch and transformers, which are not installed: "
            "run ./setup.sh --engine embedded, or name a server with --server-url"
        )
    command = [sys.executable, "-m", "engine", "model", "--dialect", "vllm", "--until-stdin-closes"]
    with subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,  # Ctrl-C is for the harness, which then stops the engine
    ) as child:
        try:
            yield _ready_url(child)
        finally:
            _stop(child)


def _ready_url(child: subprocess.Popen[bytes]) -> str:
    assert child.stdout is not None
    deadline = time.monotonic() + START_TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        if not selector.select(deadline - time.monotonic()):
            raise SetupError(f"the embedded engine was not ready after {START_TIMEOUT_S:.0f} s")
    line = child.stdout.readline()
    if not line:
        raise SetupError(f"the embedded engine ended at once with exit code {child.wait()}")
    return str(json.loads(line)["ready"])


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
