"""LoadGen's accuracy log, read as a stream.

The log is a JSON array of flat objects and can be gigabytes long. Nobody holds it: the parent finds
where each entry lies, a worker reads and parses its own. A flat object ends at its first "}", for
its only texts are hexadecimal.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from accuracy.contract import Ids
from core.errors import ConfigError

_CHUNK = 1 << 20
_MAX_ENTRY = 1 << 26  # 32,768 tokens are 2**18 digits
_BETWEEN = b"[], \t\r\n"
NO_IDS = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Span:
    """Where an entry lies in the file, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as written."""

    seq_id: int
    qsl_idx: int
    ids: Ids


class EntryError(ValueError):
    """An entry that cannot be read; says what is wrong with it."""


class EntryFinder:
    """Iterates over the entries' spans; `closed` tells afterwards whether the array had its end."""

    def __init__(self, chunks: Iterable[bytes], name: str = "the log") -> None:
        self._chunks = chunks
        self._name = name
        self._base = 0  # the file's offset of what is looked at
        self.closed = False

    def __iter__(self) -> Iterator[Span]:
        rest = b""
        for chunk in self._chunks:
            data = rest + chunk
            done = yield from self._whole_entries(data)
            rest = data[done:]
            self._base += done
            if len(rest) > _MAX_ENTRY:
                raise self._error("an entry without end")
        if rest:
            self.closed = False  # cut in the middle of an entry

    def _whole_entries(self, data: bytes) -> Generator[Span, None, int]:
        """Yield the spans in `data`, return how much of it is done with."""
        done = 0
        while (start := data.find(b"{", done)) >= 0:
            self._pass_over(data[done:start])
            done, end = start, data.find(b"}", start) + 1
            if not end:
                return done
            yield Span(self._base + start, end - start)
            done = end
        self._pass_over(data[done:])
        return len(data)

    def _pass_over(self, between: bytes) -> None:
        if between.strip(_BETWEEN) or (self.closed and between.strip()):
            raise self._error(f"{between[:20]!r} between entries")
        self.closed = self.closed or b"]" in between

    def _error(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self._name}: {what} after byte {self._base}; give LoadGen's mlperf_log_accuracy.json "
            f"as it was written (not the truncated one of a submission)"
        )


def read_chunks(path: Path, size: int = _CHUNK) -> Iterator[bytes]:
    """The file in pieces."""
    with path.open("rb") as file:
        while chunk := file.read(size):
            yield chunk


def parse_entry(raw: bytes) -> Entry:
    """Parse one entry; EntryError where a field is missing or is not what LoadGen writes."""
    try:
        fields = orjson.loads(raw)
        seq_id, qsl_idx, data = fields["seq_id"], fields["qsl_idx"], fields["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise EntryError(f"not an entry of LoadGen's ({error})") from error
    if not (type(seq_id) is int and type(qsl_idx) is int and isinstance(data, str)):
        raise EntryError("seq_id and qsl_idx must be numbers, data must be text")
    return Entry(seq_id, qsl_idx, _ids(data))


def _ids(data: str) -> Ids:
    try:
        raw = bytes.fromhex(data)
    except ValueError as error:
        raise EntryError(f"data is not hexadecimal ({error})") from error
    if len(raw) % 4:
        raise EntryError(f"data has {len(raw)} bytes, which are no whole int32 ids")
    return np.frombuffer(raw, "<i4")
