"""What is scored already, kept so that interrupted scoring goes on where it stopped.

`samples.partial.jsonl`: a line that says what was scored with what, then one line per sample. It goes
when the outputs are written. One scoring at a time may hold it.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import orjson

from accuracy.reference import Reference
from accuracy.sample import Job, Sample
from accuracy.tokenizer import tokenizer_file
from core.errors import RunError

NAME = "samples.partial.jsonl"
_PROBE = 1 << 20


class Journal:
    """The samples of an earlier attempt with the same inputs, and a place for new ones."""

    def __init__(self, file: BinaryIO, key: dict[str, object]) -> None:
        self._file = file
        self.samples = list(_whole_lines(file, key))
        if not self.samples:
            file.seek(0)
        file.truncate()
        if not file.tell():
            self._write(key)

    def add(self, sample: Sample) -> None:
        """Keep a sample; it survives the end of this process from here on."""
        self.samples.append(sample)
        self._write(asdict(sample))

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(orjson.dumps(line) + b"\n")
        self._file.flush()


def _whole_lines(file: BinaryIO, key: dict[str, object]) -> Iterator[Sample]:
    """The journal's samples where its first line is `key`; the file stands after the last one."""
    first = file.readline()
    if first != orjson.dumps(key) + b"\n":
        return
    while (at := file.tell()) >= 0 and (line := file.readline()).endswith(b"\n"):
        try:
            yield Sample(**orjson.loads(line))
        except (ValueError, TypeError):
            break
    file.seek(at)


@contextmanager
def open_journal(directory: Path, key: dict[str, object]) -> Iterator[Journal]:
    """Hold the journal of `directory`; RunError where another process holds it."""
    path = directory / NAME
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{path}: another scoring is at work here; wait for its end") from error
        file.seek(0)
        yield Journal(file, key)


def journal_key(job: Job, reference: Reference, lcb_problems: Path | None) -> dict[str, object]:
    """Everything that a verdict depends on: log, reference data, tokenizer, problems, this code."""
    tokenizer = None if job.tokenizer is None else tokenizer_file(job.tokenizer)
    code = sorted(Path(__file__).parent.glob("*.py"))
    return {
        "log": _fingerprint(job.log),
        "reference": reference.sha256,
        "expected": len(reference),
        "tokenizer": _fingerprint(tokenizer),
        "lcb_problems": _fingerprint(lcb_problems),
        "code": hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest(),
    }


def _fingerprint(path: Path | None) -> list[object]:
    """Of the file, or of all in the folder: path, size, time of change, hash of its two ends."""
    if path is None:
        return []
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [_file_fingerprint(file) for file in files if file.is_file()]


def _file_fingerprint(path: Path) -> list[object]:
    stat = path.stat()
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_PROBE))
        file.seek(max(0, stat.st_size - _PROBE))
        digest.update(file.read(_PROBE))
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns, digest.hexdigest()]
