"""manifest.json: what was run, with what, on what. Written before the first query is sent."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core.config import RunConfig

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mlcommons-loadgen", "numpy", "pyarrow", "orjson", "uvloop", "torch", "transformers")


def build_manifest(
    config: RunConfig,
    dataset: dict[str, Any],
    engines: Sequence[dict[str, Any]],
    preparation: dict[str, Any],
    loadgen: dict[str, Any],
) -> dict[str, Any]:
    """Collect the manifest; the arguments after `config` are what their rooms say of theirs."""
    return {
        **build_environment(),
        "config": plain(asdict(config)),
        "dataset": dataset,
        "engines": list(engines),
        "preparation": preparation,
        "loadgen": loadgen,
    }


def build_environment() -> dict[str, Any]:
    """When, by which command, with which software and on which machine."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "software": {"python": platform.python_version(), "git": git_revision(), **versions()},
        "host": host(),
    }


def plain(value: Any) -> Any:
    """The same value with paths as text, for JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def versions() -> dict[str, str | None]:
    """Installed versions of the packages that matter; None for a missing one."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def git_revision() -> str | None:
    """The checkout's revision, marked `-dirty` when files differ; None outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def host() -> dict[str, Any]:
    """The machine that the harness runs on."""
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
    }


def _field(path: str, name: str) -> str | None:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return None
