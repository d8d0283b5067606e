"""Puts together a folder that runs as a Hugging Face Space: the leaderboard's code and its rules."""

from __future__ import annotations

import shutil
from pathlib import Path

from core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SPACE = Path(__file__).with_name("space")
PARTS = (
    *("core/__init__.py", "core/errors.py", "competition/__init__.py", "competition/files.py"),
    *("competition/pareto.py", "competition/payload.py", "competition/profile.py"),
    "competition/profiles",
    *("competition/leaderboard", "LICENSE"),
)


def assemble(folder: Path) -> None:
    """Raises ConfigError for a folder that holds something."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty; give a new folder")
    shutil.copytree(SPACE, folder, dirs_exist_ok=True, ignore=_skipped)
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_skipped)
        else:
            shutil.copyfile(source, target)


def _skipped(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("__pycache__",)]
