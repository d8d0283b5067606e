"""Our side of every comparison: `run_mlperf.py` as a user types it, in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import ConfigError, RunError
from results.records import Records, read_parquet

ROOT = Path(__file__).resolve().parent.parent.parent
IDS = (1, 199_000)  # of prompts: none of gpt-oss's special ids
SEED = 11
CONF = "user.conf"
Found = dict[str, Any]  # figures, as they are stored
MEASURED = (0, 1)  # exit codes of run_mlperf.py for runs in which nothing failed


@dataclass(frozen=True, slots=True)
class Ask:
    """Each request of a step."""

    isl: int  # tokens of the prompt
    osl: int  # tokens of the answer, at most
    ids: tuple[int, int] = IDS  # of prompts: from and up to


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the engine."""

    mode: str  # offline, server or interactive
    dataset: Path
    max_tokens: int
    queries: int  # at least; LoadGen issues whole passes of the dataset in Offline
    qps: float = 0.001  # Server's target; in Offline it only must not ask for more queries
    seconds: float = 0.0  # at least
    flags: tuple[str, ...] = ()

    def conf(self) -> str:
        """user.conf's text."""
        name = "Offline" if self.mode == "offline" else "Server"  # Interactive is one to LoadGen
        lines = {
            "*.*.min_duration": round(self.seconds * 1000),
            "*.*.min_query_count": self.queries,
            f"*.{name}.target_qps": self.qps,
        }
        return "".join(f"{key} = {value}\n" for key, value in lines.items())


class Ended(Protocol):
    """A command that has ended."""

    @property
    def returncode(self) -> int: ...
    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...


def known_ids(model: Path) -> tuple[int, int]:
    """From and up to which ids prompts of that model's folder may have. Raises ConfigError."""
    path = model / "config.json"
    try:
        vocabulary = int(json.loads(path.read_text())["vocab_size"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: does not name the vocabulary's size ({error!r})") from None
    return IDS[0], min(IDS[1], vocabulary)


def write_dataset(
    path: Path, rows: int, tokens: int, seed: int = SEED, ids: tuple[int, int] = IDS
) -> Path:
    """Prompts of `tokens` random ids each, the same for the same seed."""
    random = np.random.default_rng(seed)
    prompts = random.integers(*ids, (rows, tokens), np.int32)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"input_tokens": list(prompts)}), path)
    return path


def prepare(load: Load, folder: Path) -> None:
    """What the command needs in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONF).write_text(load.conf())


def ours_command(load: Load, urls: Sequence[str], folder: Path) -> list[str]:
    """The command of one run, for which `prepare` has written its user.conf."""
    options = {
        "--mode": load.mode,
        "--input-file": load.dataset,
        "--user-conf": folder / CONF,
        "--output-dir": folder / "output",
        "--server-url": ",".join(urls),
        "--max-tokens": load.max_tokens,
    }
    flags = [str(part) for option in options.items() for part in option]
    return [sys.executable, str(ROOT / "run_mlperf.py"), *flags, *load.flags]


def read_ours(folder: Path, mode: str) -> dict[str, Any]:
    """The run's summary.json. Raises RunError where there is none."""
    path = folder / "output" / mode / "performance" / "summary.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: the run left no summary: {error}") from None
    return found


def read_queries(folder: Path, mode: str) -> Records:
    """A record of each query."""
    return read_parquet(folder / "output" / mode / "performance" / "queries.parquet")


def run_ours(load: Load, urls: Sequence[str], folder: Path) -> dict[str, Any]:
    """One run; its summary. Raises RunError when it left none, and for queries that failed."""
    prepare(load, folder)
    command = ours_command(load, urls, folder)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return judge_ours(load, folder, done)


def judge_ours(load: Load, folder: Path, done: Ended) -> dict[str, Any]:
    """The summary of a run that has ended, whose words are kept in `folder`. Raises as `run_ours`."""
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    if not done.stdout:
        raise RunError(f"run_mlperf.py ended with {done.returncode}: {done.stderr[-2000:]}")
    summary = read_ours(folder, load.mode)
    if done.returncode not in MEASURED:
        why = summary["verdict"], summary["reasons"], summary["failure_reasons"]
        raise RunError(f"run_mlperf.py ended with {done.returncode}, which is no run: {why}")
    return summary
