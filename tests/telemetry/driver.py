"""An NVIDIA driver that is not there: its library, from nvml.c, below nvidia-ml-py's real code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.emulator import compiler

NAME = "libnvidia-ml.so.1"  # as nvidia-ml-py loads it
SOURCE = Path(__file__).with_name("nvml.c")


def driver_folder(folder: Path) -> Path:
    """For LD_LIBRARY_PATH. GPU n's counter grows by 50 (n + 1) J with every reading."""
    if (found := compiler()) is None:
        pytest.skip("no C compiler")
    command = [found, "-shared", "-fPIC", "-O1", "-o", str(folder / NAME), str(SOURCE)]
    subprocess.run(command, check=True)
    return folder
