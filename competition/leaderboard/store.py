"""The submissions in SQLite: one row for each, kept for good. The digest recognises a repetition.

A connection lives for one call: SQLite opens a file in microseconds, and Gradio calls from several
threads.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from competition.leaderboard.entry import Entry
from competition.profile import Lengths
from core.errors import SetupError

SCHEMA = """
CREATE TABLE IF NOT EXISTS submission (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    received TEXT NOT NULL,
    team TEXT NOT NULL,
    profile TEXT NOT NULL,
    isl INTEGER NOT NULL,
    osl INTEGER NOT NULL,
    concurrency INTEGER NOT NULL,
    median_e2e_ms REAL NOT NULL,
    tput_per_gpu REAL NOT NULL,
    interactivity REAL NOT NULL,
    accuracy TEXT NOT NULL,
    date TEXT NOT NULL,
    engine TEXT NOT NULL,
    engine_version TEXT NOT NULL,
    tp INTEGER,
    gpus_used INTEGER
);
CREATE INDEX IF NOT EXISTS board ON submission (profile, isl, osl);
"""
COLUMNS = (
    *("digest", "received", "team", "profile", "isl", "osl", "concurrency", "median_e2e_ms"),
    *("tput_per_gpu", "interactivity", "accuracy", "date", "engine", "engine_version", "tp"),
    "gpus_used",
)
INSERT = (
    f"INSERT INTO submission ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (digest) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A row."""

    id: int
    received: datetime
    entry: Entry


class Store:
    """A database file, made where it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with self._open() as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise SetupError(f"--database {path}: {error}") from None

    def add(self, entry: Entry, received: datetime) -> bool:
        """False for a measurement that is there already, which then stays as it is."""
        with self._open() as database:
            return database.execute(INSERT, _row(entry, received)).rowcount == 1

    def all(self) -> list[Stored]:
        """In the order in which they came."""
        return self._select("SELECT * FROM submission ORDER BY id")

    def board(self, profile: str, lengths: Lengths) -> list[Stored]:
        """All of one profile and pair of lengths, in the order in which they came."""
        query = "SELECT * FROM submission WHERE (profile, isl, osl) = (?, ?, ?) ORDER BY id"
        return self._select(query, profile, *lengths)

    def _select(self, query: str, *values: str | int) -> list[Stored]:
        with self._open() as database:
            return [_stored(row) for row in database.execute(query, values)]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
            database.row_factory = sqlite3.Row
            yield database


def _row(entry: Entry, received: datetime) -> tuple[str | int | float | None, ...]:
    values: dict[str, Any] = {
        "isl": entry.lengths.isl,
        "osl": entry.lengths.osl,
        "received": received.isoformat(),
        "accuracy": json.dumps(dict(entry.accuracy)),
        "date": entry.date.isoformat(),
    }
    return tuple(values[name] if name in values else getattr(entry, name) for name in COLUMNS)


def _stored(row: sqlite3.Row) -> Stored:
    same = ("team", "profile", "concurrency", "median_e2e_ms", "tput_per_gpu", "interactivity")
    details = ("engine", "engine_version", "tp", "gpus_used")
    entry = Entry(
        **{name: row[name] for name in same + details},
        lengths=Lengths(row["isl"], row["osl"]),
        accuracy=json.loads(row["accuracy"]),
        date=datetime.fromisoformat(row["date"]),
    )
    return Stored(row["id"], datetime.fromisoformat(row["received"]), entry)
