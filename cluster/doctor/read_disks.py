"""The folders that a run writes to: room, and whether this user may write there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cluster.doctor.facts import Disks, Folder

SHM = Path("/dev/shm")


def read_disks(output: Path, env: Mapping[str, str]) -> Disks:
    shm = _folder("shm", SHM) if SHM.is_dir() else None
    left = len(list(SHM.glob("sglang_loads_*.shm"))) if shm else 0
    caches = cache_folders(env, Path.home())
    return Disks(
        output=_folder("output", output),
        caches=tuple(_folder(name, path) for name, path in caches.items()),
        shm=shm,
        shm_leftovers=left,
    )


def cache_folders(env: Mapping[str, str], home: Path) -> dict[str, Path]:
    """Where weights, compiled kernels and graphs go, by each library's own rule."""
    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    weights = Path(env.get("HF_HOME") or cache / "huggingface") / "hub"
    return {
        "weights": Path(env.get("HF_HUB_CACHE") or weights),
        "vllm": Path(env.get("VLLM_CACHE_ROOT") or cache / "vllm"),
        "triton": Path(env.get("TRITON_CACHE_DIR") or home / ".triton"),
    }


def _folder(what: str, path: Path) -> Folder:
    """Of a folder that is not there yet: the one in which it would be made."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        room = os.statvfs(there)
    except OSError:
        return Folder(what, str(path), None, None, False)
    return Folder(
        what,
        str(path),
        free=room.f_bavail * room.f_frsize,
        total=room.f_blocks * room.f_frsize,
        writable=there.is_dir() and os.access(there, os.W_OK | os.X_OK),
    )
