"""The token column -> flat int32 ids and row offsets, every id judged on the way.

Arrow columns are checked a chunk at a time, Python cells a row at a time, by the same rules; a row
number is worked out only when one fails. A bad id found here costs a message, found by an engine it
costs a run (some engines die of it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import ConfigError
from dataset.dataset import row_of

ID_MAX = int(np.iinfo(np.int32).max)
Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message points: a column of a file."""

    path: Path
    column: str

    def refuse(self, row: int, what: str) -> NoReturn:
        raise ConfigError(
            f"{self.path}: column {self.column}, row {row}: {what}; mend the row where the file is "
            f"made (each is one flat, non-empty list of integers from 0 to {ID_MAX})"
        )


def flatten_arrow(column: pa.ChunkedArray, place: Place) -> tuple[Ids, Offsets]:
    """Return ids of shape (total,) and offsets of shape (rows + 1,); int32 ids are not copied.

    `column` is any list type. Raises ConfigError naming the first row that is null, empty, nested
    or holds anything but integers from 0 to 2**31 - 1; floats that are whole count as integers.
    """
    if column.null_count:
        place.refuse(pc.index(pc.is_null(column), True).as_py(), "null instead of tokens")
    if not _is_list(column.type):
        place.refuse(0, f"{_short(column[0].as_py())} is a {column.type}, not a list of tokens")
    lengths = pc.list_value_length(column).to_numpy()
    return _judged([chunk.flatten() for chunk in column.chunks], lengths, place)


def flatten_cells(cells: Sequence[object], place: Place) -> tuple[Ids, Offsets]:
    """Do what `flatten_arrow` does for lists, tuples and numpy arrays out of a pickle."""
    rows = [_row(cell, row, place) for row, cell in enumerate(cells)]
    return _judged(rows, np.array([len(row) for row in rows]), place)


def _is_list(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind))


def _row(cell: object, row: int, place: Place) -> pa.Array:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        place.refuse(row, "null or NaN instead of tokens")
    if not isinstance(cell, list | tuple | np.ndarray):
        place.refuse(row, f"{_short(cell)} is a {type(cell).__name__}, not a list of tokens")
    try:
        return pa.array(cell, from_pandas=True)  # infers the type: asked for int32 it cuts floats
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        place.refuse(row, f"{_short(cell)} is not a flat list of integers ({error})")


def _judged(
    parts: list[pa.Array], lengths: npt.NDArray[np.integer], place: Place
) -> tuple[Ids, Offsets]:
    """Return ids and offsets; `parts` are the values end to end, `lengths` the rows'."""
    if not len(lengths):
        raise ConfigError(f"{place.path}: column {place.column} has no rows; use a complete file")
    if not lengths.all():
        place.refuse(int(np.argmin(lengths)), "no tokens")
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    parts = [part for part in parts if len(part)]
    starts = [0, *accumulate(len(part) for part in parts)]
    checked = [_ids(part, at, offsets, place) for part, at in zip(parts, starts, strict=False)]
    ids = checked[0] if len(checked) == 1 else np.concatenate(checked)
    ids.flags.writeable = offsets.flags.writeable = False
    return ids, offsets


def _ids(values: pa.Array, start: int, offsets: Offsets, place: Place) -> Ids:
    """Return one part as int32; `start` is its first value's flat position."""

    def refuse_first(bad: npt.NDArray[np.bool_], what: str) -> None:
        if bad.any():
            at = int(np.argmax(bad))
            place.refuse(row_of(offsets, start + at), f"{_short(values[at].as_py())} {what}")

    if values.null_count:
        refuse_first(values.is_null().to_numpy(zero_copy_only=False), "is null or NaN")
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        refuse_first(np.array([True]), f"is a {values.type}, not an integer")
    ids: npt.NDArray[np.number] = values.to_numpy(zero_copy_only=False)
    if ids.dtype.kind == "f":
        refuse_first(np.isnan(ids), "is not a number")
        refuse_first(ids != np.floor(ids), "is not an integer")
    if ids.min() < 0:
        refuse_first(ids < 0, "is negative")
    if ids.max() > ID_MAX:
        refuse_first(ids > ID_MAX, "is above int32")
    return ids.astype(np.int32, copy=False)


def _short(value: object, limit: int = 40) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."
