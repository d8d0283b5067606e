"""The folder of one run. Everything that later reads a run reads this folder.

manifest.json    settings, versions, dataset hash, host, what the engine said of itself
queries.parquet  one row for each query that ended (queries.bin while the run goes on)
engines.parquet  one row for each look at a replica's /metrics (engines.bin while the run goes on)
summary.json     verdict and numbers
mlperf_log_*     LoadGen's own logs
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from core.errors import SetupError
from results.engines import read_samples, write_samples
from results.records import write_parquet


class RunFolder:
    """Owns the folder while its run goes on."""

    def __init__(self, path: Path, top: Path | None = None) -> None:
        """Make an empty folder at `path`. Raises SetupError.

        An earlier run there is moved aside: all of `top`, which is `path` or a folder above it.
        """
        self.path = path
        self.top = top or path
        self.moved: Path | None = None
        try:
            if self.top.exists() and any(self.top.iterdir()):
                self.moved = _free_name(self.top)
                self.top.rename(self.moved)
            path.mkdir(parents=True, exist_ok=True)
            self._records = self.records_path.open("ab", buffering=0)
            self._samples = self.samples_path.open("ab", buffering=0)
        except OSError as error:
            raise SetupError(
                f"--output-dir: cannot write to {path} ({error.strerror}): choose another folder"
            ) from None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._records.close()
        self._samples.close()

    @property
    def records_path(self) -> Path:
        return self.path / "queries.bin"

    @property
    def samples_path(self) -> Path:
        return self.path / "engines.bin"

    def store(self, records: bytes) -> None:
        """Append packed records. Raises OSError, for example when the disk is full."""
        _append(self._records, records)

    def store_samples(self, samples: bytes) -> None:
        """Append packed samples of the engines. Raises OSError."""
        _append(self._samples, samples)

    def convert(self) -> None:
        """Turn what was stored into parquet files; a raw one goes only when its successor exists."""
        write_parquet(self.records_path, self.path / "queries.parquet")
        self.records_path.unlink()
        write_samples(read_samples(self.samples_path), self.path / "engines.parquet")
        self.samples_path.unlink()

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file whole or not at all."""
        temporary = self.path / f".{name}.tmp"
        with temporary.open("w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / name)


def _append(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _free_name(path: Path) -> Path:
    """Where an earlier run goes: its folder's name with the time of its last change."""
    stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%SZ")
    name = path.with_name(f"{path.name}.{stamp}")
    number = 1
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}.{stamp}-{number}")
    return name
