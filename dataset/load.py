"""A file of unknown make -> Dataset. Its first bytes decide the format, its name says nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import ConfigError
from dataset import safe_pickle, standins
from dataset.dataset import Dataset
from dataset.tokens import Ids, Offsets, Place, flatten_arrow, flatten_cells

TOKEN_COLUMNS = ("tok_input", "input_tokens")  # before v4 and since; the reference's order
_PARQUET = b"PAR1"
_REMEDY = "give a DataFrame, a list of dicts, a dict of columns, or convert it to parquet"
_Read = tuple[str, Ids, Offsets, pa.Table]  # token column's name, ids, offsets, the other columns


def load_dataset(path: Path | str, max_samples: int | None = None) -> Dataset:
    """Read, check and hash a tokenized parquet or pickle file; keep its first `max_samples` rows.

    Raises ConfigError naming file, column, row and remedy for whatever cannot be used.
    """
    path = Path(path)
    name, ids, offsets, columns = _reader(path)(path)
    dataset = Dataset(path, _sha256(path), name, ids, offsets, columns)
    return dataset if max_samples is None else dataset.head(max_samples)


def _reader(path: Path) -> Callable[[Path], _Read]:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give a parquet or pickle file") from error
    if not start:
        raise ConfigError(f"{path}: empty file; fetch it again")
    if start == _PARQUET:
        return _read_parquet
    if start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5":
        return _read_pickle
    raise ConfigError(
        f"{path}: neither parquet nor a pickle of protocol 2 to 5 (it starts with {start!r}); "
        f"decompress it, or convert it to parquet"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _token_column(names: Iterable[str], path: Path) -> str:
    for name in TOKEN_COLUMNS:
        if name in names:
            return name
    raise ConfigError(
        f"{path}: no column {' or '.join(TOKEN_COLUMNS)}; it has {', '.join(names) or 'none'}; "
        f"rename the one with the token ids"
    )


def _read_parquet(path: Path) -> _Read:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        what = f"truncated or damaged parquet ({str(error).partition(chr(10))[0]})"
        raise ConfigError(f"{path}: {what}; fetch it again") from error
    name = _token_column(table.column_names, path)
    at = table.column_names.index(name)
    return name, *flatten_arrow(table.column(at), Place(path, name)), table.remove_column(at)


def _read_pickle(path: Path) -> _Read:
    columns = _columns(safe_pickle.load(path), path)
    name = _token_column(columns, path)
    place = Place(path, name)
    ids, offsets = flatten_cells(columns.pop(name), place)
    others = {key: _arrow(cells) for key, cells in columns.items()}
    for key, cells in others.items():
        if len(cells) != len(offsets) - 1:
            counts = f"{len(cells)} rows, {name} {len(offsets) - 1}"
            raise ConfigError(f"{path}: column {key} has {counts}; mend the file")
    return name, ids, offsets, pa.table(others)


def _columns(root: object, path: Path) -> dict[str, list[Any]]:
    """Return a pickle's columns: of a DataFrame, a dict of columns or a list of dicts."""
    try:
        if isinstance(root, standins.Frame):
            root = root.columns()
        if isinstance(root, list):
            names = dict.fromkeys(name for row in root for name in row)
            root = {name: [row.get(name) for row in root] for name in names}
        if isinstance(root, dict):
            return {str(name): list(cells) for name, cells in root.items()}
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise ConfigError(f"{path}: a table of unknown layout ({error}); {_REMEDY}") from error
    raise ConfigError(f"{path}: the pickle holds a {type(root).__name__}, no table; {_REMEDY}")


def _arrow(cells: Sequence[Any]) -> pa.Array:
    """Return a column as Arrow; one of mixed types (1, "B") as text."""
    cells = [cell.tolist() if isinstance(cell, np.generic) else cell for cell in cells]
    try:
        return pa.array(cells, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([cell if cell is None else str(cell) for cell in cells], pa.string())
