"""What this machine is: ROCm, CUDA or CPU, which GPU and how many. Read from the kernel where that
is possible, because tools are missing in some containers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GFX_NAMES = {"gfx950": "MI355X", "gfx942": "MI300X"}  # the recipes' names; MI350X, MI325X are kin
TOOL_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Machine:
    platform: str
    gpu: str | None  # None: not known
    count: int  # GPUs that the machine has, whatever the job may see


def look(platform: str | None = None, gpu: str | None = None, root: Path = Path("/")) -> Machine:
    """platform, gpu: what the user said, which is believed."""
    found = platform or _platform(root)
    if found == "cpu":
        return Machine(found, gpu, 0)
    name, count = _rocm(root) if found == "rocm" else _cuda(root)
    return Machine(found, gpu or name, count)


def _platform(root: Path) -> str:
    if (root / "dev/kfd").exists():
        return "rocm"
    if (root / "proc/driver/nvidia/version").exists() or _lines("nvidia-smi", "-L"):
        return "cuda"
    return "cpu"


def _rocm(root: Path) -> tuple[str | None, int]:
    nodes = root / "sys/class/kfd/kfd/topology/nodes"
    targets = [gfx for file in sorted(nodes.glob("*/properties")) if (gfx := _gfx(file))]
    said = " ".join(_lines("rocm-smi", "--showproductname")) if targets else ""
    model = re.search(r"\bMI\d{3}[A-Z]*\b", said)
    name = model[0] if model else GFX_NAMES.get(targets[0], targets[0]) if targets else None
    return name, len(targets)


def _gfx(properties: Path) -> str | None:
    """'gfx942' of a node of the kernel's topology; None: no GPU, or not one of this container's."""
    try:
        text = properties.read_text()
    except OSError:
        return None
    if not (found := re.search(r"^gfx_target_version (\d+)$", text, re.M)) or found[1] == "0":
        return None
    major, minor, step = int(found[1]) // 10000, int(found[1]) // 100 % 100, int(found[1]) % 100
    return f"gfx{major}{minor:x}{step:x}"


def _cuda(root: Path) -> tuple[str | None, int]:
    names = _lines("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    if not names:
        files = (root / "proc/driver/nvidia/gpus").glob("*/information")
        texts = [file.read_text() for file in sorted(files)]
        names = [m[1] for text in texts if (m := re.search(r"^Model:\s*(.+)$", text, re.M))]
    return (names[0] if names else None), len(names)


def _lines(*command: str) -> Sequence[str]:
    """A tool's output; nothing where it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
