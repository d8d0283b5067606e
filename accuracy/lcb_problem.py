"""LiveCodeBench's problems: which tests a candidate must pass.

The release holds gigabytes of tests, so a file is read once to note where each problem lies, and a
problem's tests are decoded when it is asked for. Private tests are JSON, or JSON in a pickle in zlib
in base64: the pickle goes through the restricted unpickler, and what zlib may grow to is bounded.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from core.errors import ConfigError
from dataset import safe_pickle

FIELDS = ["question_id", "public_test_cases", "private_test_cases", "metadata"]
MAX_TESTS_BYTES = (
    1 << 30
)  # one problem's private tests, unpacked; the release's largest are far below


@dataclass(frozen=True, slots=True)
class Test:
    """One input and the output that is expected for it."""

    __test__ = False  # pytest collects classes of this name

    input: str
    output: str
    functional: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its public tests, then its private ones.

    func_name: the function to call; None: the candidate reads stdin and prints.
    """

    question_id: str
    tests: tuple[Test, ...]
    func_name: str | None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a problem lies: bytes [at, at + size) of a JSON-lines file, or row `at` of a parquet."""

    file: Path
    at: int
    size: int


class Problems(Mapping[str, Problem]):
    """Problems by question_id, decoded (again) at each look-up; pickles as a small index."""

    def __init__(self, places: dict[str, _Place]) -> None:
        self._places = places

    def __getitem__(self, question_id: str) -> Problem:
        place = self._places[question_id]
        row = _parquet_row(place) if place.file.suffix == ".parquet" else _line(place)
        return problem(row, f"{place.file}: {question_id}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def load_problems(path: Path) -> Problems:
    """The problems of a .jsonl, .json or .parquet file, or of all such files in a folder.

    ConfigError: nothing there, a row without its fields, or a question_id that occurs twice.
    """
    places: dict[str, _Place] = {}
    for file in _files(path):
        for question_id, place in _index(file):
            if question_id in places:
                both = f"{places[question_id].file} and {file}"
                raise ConfigError(f"{question_id} occurs twice ({both}); keep one release")
            places[question_id] = place
    return Problems(places)


def problem(row: Mapping[str, Any], source: str) -> Problem:
    """Decode one row of LiveCodeBench's fields. ConfigError: it cannot be read; source names it."""
    try:
        public = json.loads(row["public_test_cases"])
        cases = public + _private(row["private_test_cases"], source)
        tests = tuple(Test(c["input"], c["output"], c["testtype"] == "functional") for c in cases)
        func_name = json.loads(row["metadata"] or "{}").get("func_name")
        question_id = str(row["question_id"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{source}: not a LiveCodeBench problem ({error!r})") from error
    if not tests:
        raise ConfigError(f"{source}: no tests, so that any program would pass")
    return Problem(question_id, tests, func_name)


def _private(text: str, source: str) -> list[dict[str, str]]:
    try:
        return list(json.loads(text))
    except ValueError:
        pass
    try:
        packed = base64.b64decode(text)
        stream = zlib.decompressobj()
        data = stream.decompress(packed, MAX_TESTS_BYTES)
    except (binascii.Error, zlib.error) as error:
        raise ConfigError(f"{source}: private tests are damaged ({error})") from error
    if stream.unconsumed_tail or not stream.eof:
        raise ConfigError(f"{source}: private tests are cut, or over {MAX_TESTS_BYTES} bytes")
    unpickled = safe_pickle.loads(data, f"{source}: private tests")
    if not isinstance(unpickled, str):
        raise ConfigError(
            f"{source}: private tests are a {type(unpickled).__name__}, not JSON text"
        )
    return list(json.loads(unpickled))


def _files(path: Path) -> list[Path]:
    kinds = (".jsonl", ".json", ".parquet")
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in found if file.suffix in kinds and file.is_file()]
    if not files:
        raise ConfigError(f"{path}: no LiveCodeBench problems ({', '.join(kinds)}) there")
    return files


def _index(file: Path) -> Iterator[tuple[str, _Place]]:
    try:
        if file.suffix == ".parquet":
            column = pq.read_table(file, columns=["question_id"])["question_id"]
            for row, question_id in enumerate(column.to_pylist()):
                yield str(question_id), _Place(file, row, 1)
            return
        with file.open("rb") as lines:
            at = 0
            for line in lines:
                if line.strip():
                    yield str(json.loads(line)["question_id"]), _Place(file, at, len(line))
                at += len(line)
    except (KeyError, TypeError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ConfigError(f"{file}: no LiveCodeBench problems ({error!r})") from error


def _line(place: _Place) -> dict[str, Any]:
    with place.file.open("rb") as file:
        file.seek(place.at)
        return dict(json.loads(file.read(place.size)))


def _parquet_row(place: _Place) -> dict[str, Any]:
    with pq.ParquetFile(place.file) as file:
        group, first = 0, 0
        while first + file.metadata.row_group(group).num_rows <= place.at:
            first += file.metadata.row_group(group).num_rows
            group += 1
        batches = file.iter_batches(1, row_groups=[group], columns=FIELDS)
        for _ in range(place.at - first):
            next(batches)
        return dict(next(batches).to_pylist()[0])
