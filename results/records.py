"""Per-query records on disk: raw while the run goes on, parquet afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from core.outcome import Finish, Outcome
from core.record import RECORD

Records = npt.NDArray[np.void]  # of dtype RECORD
_LABELS = {"outcome": Outcome, "finish": Finish}


def read_raw(path: Path) -> Records:
    """The whole records in a raw file; a last one that was cut short is left out."""
    return np.fromfile(path, RECORD, count=path.stat().st_size // RECORD.itemsize)


def write_parquet(raw: Path, path: Path) -> None:
    """Convert a raw file. `outcome` and `finish` become words."""
    records = read_raw(raw)
    columns = {name: _column(records, name) for name in RECORD.names or ()}
    temporary = path.with_suffix(".tmp")
    pq.write_table(pa.table(columns), temporary, compression="zstd")
    temporary.replace(path)


def _column(records: Records, name: str) -> pa.Array:
    if name not in _LABELS:
        return pa.array(np.ascontiguousarray(records[name]))
    words = [member.name.lower() for member in _LABELS[name]]
    return pa.DictionaryArray.from_arrays(pa.array(records[name].astype(np.int8)), words)


def read_parquet(path: Path) -> Records:
    """The records of a finished run, as they were stored."""
    table = pq.read_table(path)
    records = np.zeros(len(table), RECORD)
    for name in RECORD.names or ():
        column = table.column(name).combine_chunks()
        if name in _LABELS:
            numbers = {member.name.lower(): member.value for member in _LABELS[name]}
            records[name] = [numbers[word] for word in column.to_pylist()]
        else:
            records[name] = column.to_numpy()
    return records
