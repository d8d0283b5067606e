"""What the tests share: the emulator as a real process, runs as real commands, their folders read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from results.loadgen_log import LoadGenLog, read_detail_log
from results.records import Records, read_parquet

ROOT = Path(__file__).resolve().parent.parent
RUN_LIMIT_S = 90.0


@dataclass
class Emulator:
    """A running `python -m engine clock`."""

    url: str
    process: subprocess.Popen[str]

    def truth(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/truth", timeout=10) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())
        return found


@contextmanager
def emulator(*flags: str, kind: str = "clock") -> Iterator[Emulator]:
    command = [sys.executable, "-m", "engine", kind, "--until-stdin-closes", *flags]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdin
        try:
            yield Emulator(json.loads(process.stdout.readline())["ready"], process)
        finally:
            process.stdin.close()
            process.wait(10)


@dataclass
class Run:
    """A finished run_mlperf.py."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        path = self.folder / "summary.json"
        assert path.exists(), f"exit code {self.code}\n{self.stdout}{self.stderr}"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    @property
    def last_line(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return found

    @property
    def records(self) -> Records:
        return read_parquet(self.folder / "queries.parquet")

    @property
    def log(self) -> LoadGenLog:
        return read_detail_log(self.folder)


def unmarked(verdict: str) -> str:
    """Without "and limited by the harness": on a busy machine any run of any verdict may be."""
    return verdict.partition(",")[0]


def command_line(mode: str, output: Path, *flags: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "run_mlperf.py"),
        "--mode",
        mode,
        "--output-dir",
        str(output),
        *("--warmup", "0"),  # so that an engine's truth is about the measured queries alone
        *flags,
    ]


def run_mlperf(mode: str, tmp_path: Path, *flags: str, accuracy: bool = False, **popen: Any) -> Run:
    """Run the real command in `tmp_path` and wait for its end."""
    output = tmp_path / "output"
    command = command_line(mode, output, *flags, *(["--accuracy"] if accuracy else []))
    options: dict[str, Any] = {"cwd": tmp_path, "env": os.environ | {"PYTHONWARNINGS": "error"}}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_LIMIT_S, **options | popen
    )
    folder = output / mode / ("accuracy" if accuracy else "performance")
    return Run(result.returncode, result.stdout, result.stderr, folder)


def write_dataset(
    path: Path, n: int = 32, length: int = 16, vocab: int = 1000, lengths: int = 5
) -> Path:
    """A tokenized parquet file of `n` different prompts of `length` tokens and up to `lengths` - 1
    more."""
    random = np.random.default_rng(7)
    rows = [random.integers(1, vocab, length + i % lengths).tolist() for i in range(n)]
    table = pa.table({"input_tokens": pa.array(rows, pa.list_(pa.int32()))})
    pq.write_table(table.append_column("ground_truth", pa.array([str(i) for i in range(n)])), path)
    return path


def write_conf(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


OFFLINE_CONF = ("*.Offline.min_duration = 0", "*.Offline.min_query_count = 1")


def server_conf(qps: float, seconds: float) -> Sequence[str]:
    return (
        f"*.Server.target_qps = {qps}",
        f"*.Server.min_duration = {int(seconds * 1000)}",
        "*.Server.min_query_count = 1",
    )
