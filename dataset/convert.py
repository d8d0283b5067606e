"""Writing a dataset as parquet: ids as list<int32>, zstd, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import ConfigError, RunError
from dataset.dataset import Dataset


def to_table(dataset: Dataset) -> pa.Table:
    """Return the token column as list<int32>, then every other column."""
    tokens = pa.ListArray.from_arrays(pa.array(dataset.offsets, pa.int32()), pa.array(dataset.ids))
    return pa.table({dataset.token_column: tokens} | dict(_columns(dataset.columns)))


def _columns(table: pa.Table) -> list[tuple[str, pa.ChunkedArray]]:
    return list(zip(table.column_names, table.columns, strict=True))


def write_parquet(table: pa.Table, target: Path, *, force: bool = False) -> None:
    """Write beside `target` and rename, so that a half-written file never bears its name.

    ConfigError: `target` exists and not `force`. RunError: it cannot be written (disk full, ...).
    """
    if target.exists() and not force:
        raise ConfigError(f"{target}: exists already; choose another name or pass --force")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(target)
    except OSError as error:
        what = f"not written ({error.strerror or error})"
        raise RunError(f"{target}: {what}; free space or choose another folder") from error
    finally:
        temporary.unlink(missing_ok=True)
