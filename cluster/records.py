"""What is kept of a job beside its results: where it stands, and what became of each measurement.

<folder>/state.json            the orchestrator's last word
<folder>/measured/<name>.json  one measurement that has ended
<folder>/jobs.json             what was submitted
<folder>/plan.json             the last job's plan, with the whole chain
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from cluster.chain import Measurement
from cluster.plan import Plan

STATE, MEASURED, JOBS, PLAN = "state.json", "measured", "jobs.json", "plan.json"
LOCK = ".lock"
SMALL = 1 << 20  # bytes: a file up to that size is told by its contents, else by size and time
NOT_PASSING = ("UNSCORED",)  # ends with exit code 0, yet nothing counts behind it


@dataclass(frozen=True, slots=True)
class Measured:
    """How one measurement went."""

    name: str
    words: tuple[str, ...]  # as in the plan, so that another command is not taken for done
    exit_code: int
    verdict: str
    folder: str  # below the job's; empty: it ended before it left anything
    replicas: tuple[str, ...]
    wanted: int  # replicas; with fewer, some had been left out
    system: dict[str, Any]  # the plan's
    files: dict[str, str]  # that it read, and what tells their contents apart
    began: str  # local time with zone
    ended: str
    job: str

    @property
    def passed(self) -> bool:
        return self.exit_code == 0 and self.verdict.partition(",")[0] not in NOT_PASSING


@dataclass(frozen=True, slots=True)
class State:
    """Where a job stands, for `status`."""

    job: str
    phase: str
    replicas: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    updated: str = ""


def store(folder: Path, measured: Measured) -> None:
    """Raises OSError."""
    write_json(folder / MEASURED / f"{measured.name}.json", asdict(measured))


def load(folder: Path, name: str) -> Measured | None:
    """None where it has not ended yet, or what is there cannot be read."""
    content = read_json(folder / MEASURED / f"{name}.json")
    if not isinstance(content, dict):
        return None
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    try:
        return Measured(**fields)
    except TypeError:
        return None


def submitted(folder: Path) -> list[str]:
    """The ids of the folder's jobs; of what was damaged by hand, those that can be read."""
    content = read_json(folder / JOBS)
    rows = content if isinstance(content, list) else []
    return [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row]


def is_done(folder: Path, plan: Plan, one: Measurement) -> bool:
    """Whether this very command has passed, on such servers, with these files, and is still there."""
    found = load(folder, one.name)
    if found is None or not found.passed or found.words != one.words:
        return False
    if found.system != plan.system or found.files != stamps(plan, one):
        return False
    return (folder / one.folder / one.summary).is_file()


def stamps(plan: Plan, one: Measurement) -> dict[str, str]:
    """The files of a measurement; a missing one has no stamp."""
    return {file: _stamp(Path(file)) for file in plan.files if file in one.words}


def _stamp(file: Path) -> str:
    try:
        found = file.stat()
        if found.st_size > SMALL:
            return f"{found.st_size} bytes of {found.st_mtime_ns}"
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def lock_folder(folder: Path) -> IO[str] | None:
    """Held as long as the file is open; None where another job works there."""
    file = (folder / LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:  # a file system without locks
        pass
    return file


def now() -> str:
    """Local time with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def read_json(path: Path) -> Any:
    """None where there is none, or half of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: object) -> None:
    """Whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    new.replace(path)
