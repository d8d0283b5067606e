"""All submissions as JSON, and as CSV that a spreadsheet cannot be tricked with."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from competition.leaderboard.store import Stored
from competition.payload import ACCURACIES

METRICS = tuple(name for names in ACCURACIES.values() for name in names)
COLUMNS = (
    *("id", "received", "date", "team", "profile", "isl", "osl", "concurrency"),
    *("median_e2e_ms", "tput_per_gpu", "interactivity", *METRICS),
    *("engine", "engine_version", "tp", "gpus_used"),
)
# A cell that begins so is a formula to a spreadsheet.
FORMULA = ("=", "+", "-", "@")


def as_json(rows: Iterable[Stored]) -> str:
    return json.dumps([_flat(row) for row in rows], indent=2, ensure_ascii=False) + "\n"


def as_csv(rows: Iterable[Stored]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for row in rows:
        flat = _flat(row)
        writer.writerow(_cell(flat[name]) for name in COLUMNS)
    return file.getvalue()


def _flat(row: Stored) -> dict[str, Any]:
    entry = row.entry
    own = {"id": row.id, "received": row.received.isoformat(), "date": entry.date.isoformat()}
    pair = {"isl": entry.lengths.isl, "osl": entry.lengths.osl}
    metrics = {name: entry.accuracy.get(name) for name in METRICS}
    known = own | pair | metrics
    return {name: known[name] if name in known else getattr(entry, name) for name in COLUMNS}


def _cell(value: object) -> object:
    dangerous = isinstance(value, str) and value.lstrip().startswith(FORMULA)
    return f"'{value}" if dangerous else value
