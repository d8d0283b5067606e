"""Asking other programs and files, neither of which may hold us up.

A program that hangs in its driver cannot be killed, so after the time limit nobody waits for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 3.0


@dataclass(frozen=True, slots=True)
class Told:
    text: str = ""
    problem: str = ""  # "" if it answered


def tell(argv: Sequence[str], limit_s: float = LIMIT_S) -> Told:
    """What a program writes to its standard output within its time."""
    program = shutil.which(argv[0])
    if program is None:
        return Told(problem=f"there is no {argv[0]}")
    try:
        process = subprocess.Popen(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,  # so that its children can be ended with it
            text=True,
            errors="replace",
        )
    except OSError as error:
        return Told(problem=f"{argv[0]}: {error.strerror}")
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return Told(problem=f"{argv[0]} did not answer within {limit_s:g} s")
    if process.returncode:
        last = (err.strip() or out.strip() or "no message").splitlines()[-1]
        return Told(problem=f"{argv[0]} ended with {process.returncode}: {last[:200]}")
    return Told(out)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.2)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def tell_all(commands: Mapping[str, Sequence[str]]) -> dict[str, Told]:
    """All of them at the same time."""
    if not commands:
        return {}
    with ThreadPoolExecutor(len(commands)) as pool:
        return dict(zip(commands, pool.map(tell, commands.values()), strict=True))


def read(path: Path) -> str:
    """A file's text without the white space around it, "" if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def folders(path: Path) -> list[Path]:
    """What lies in a folder, in order; nothing if it cannot be read."""
    try:
        return sorted(path.iterdir())
    except OSError:
        return []
