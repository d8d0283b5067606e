"""A replica's share of the machine, in variables: what two replicas must not have in common."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Replicas that compile into one folder at the same time spoil it for each other.
CACHES = {
    "vllm": ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR"),
    "sglang": ("TORCHINDUCTOR_CACHE_DIR",),
}
CPU_BINDING = {"vllm": "VLLM_CPU_OMP_THREADS_BIND", "sglang": "SGLANG_CPU_OMP_THREADS_BIND"}


def caches(engine: str, index: int, root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """A private folder per replica, below the user's own where that is set."""
    bases = {
        name: Path(environ.get(name) or root / name.split("_")[0].lower())
        for name in CACHES[engine]
    }
    return {name: str(base / f"replica-{index}") for name, base in bases.items()}


def cores(engine: str, index: int, of: int, environ: Mapping[str, str]) -> dict[str, str]:
    """A share of the cores: by itself each replica would take the same ones."""
    ours = sorted(os.sched_getaffinity(0))
    name, share = CPU_BINDING[engine], len(ours) // of
    if share < 1 or name in environ or of == 1:
        return {}
    return {name: ",".join(map(str, ours[index * share : (index + 1) * share]))}
