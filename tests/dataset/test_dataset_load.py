"""Good files of every make load to the same dataset; each kind of bad file has its message."""

from __future__ import annotations

import hashlib
import math
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from dataset import Dataset, load_dataset

PROMPTS = [[5, 6, 7], [8], [9, 10]]
LABELS = {"dataset": ["aime25", "gpqa_diamond", "aime25"], "ground_truth": ["1", "B", "3"]}


def write_parquet(path: Path, tokens: Any, kind: pa.DataType | None = None) -> Path:
    column = tokens if isinstance(tokens, pa.Array | pa.ChunkedArray) else pa.array(tokens, kind)
    pq.write_table(pa.table({"input_tokens": column}), path)
    return path


def write_pickle(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def frame(tokens: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"input_tokens": pd.Series(tokens, dtype=object)})


def rows(dataset: Dataset) -> list[list[int]]:
    return [dataset.prompt(i).tolist() for i in range(len(dataset))]


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.int32()), pa.list_(pa.int64()), pa.large_list(pa.int32()), pa.list_(pa.uint16())],
    ids=str,
)
def test_parquet_list_types(tmp_path: Path, kind: pa.DataType) -> None:
    dataset = load_dataset(write_parquet(tmp_path / "a.parquet", PROMPTS, kind))
    assert rows(dataset) == PROMPTS
    assert dataset.ids.dtype == np.int32 and dataset.offsets.dtype == np.int64
    assert dataset.offsets.tolist() == [0, 3, 4, 6]


def test_parquet_fixed_size_list(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [[1, 2], [3, 4]], pa.list_(pa.int32(), 2))
    assert rows(load_dataset(path)) == [[1, 2], [3, 4]]


def test_parquet_of_many_row_groups(tmp_path: Path) -> None:
    table = pa.table({"tok_input": PROMPTS * 5, "n": list(range(15))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    dataset = load_dataset(tmp_path / "a.parquet")
    assert rows(dataset) == PROMPTS * 5
    assert dataset.columns["n"].to_pylist() == list(range(15))


def test_whole_floats_are_tokens(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [[1.0, 2.0]], pa.list_(pa.float64()))
    assert rows(load_dataset(path)) == [[1, 2]]
    assert rows(load_dataset(write_pickle(tmp_path / "a.pkl", frame([[1.0, 2.0]])))) == [[1, 2]]


CELLS: list[Callable[[list[int]], Any]] = [
    list,
    tuple,
    np.array,
    lambda ids: np.array(ids, np.int32),
    lambda ids: np.array(ids, ">i8"),
    lambda ids: np.array(ids, object),
    lambda ids: [np.int64(i) for i in ids],
    lambda ids: np.array([ids, ids]).T[:, 0],  # not contiguous
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("cell", CELLS)
def test_dataframe_pickle(tmp_path: Path, cell: Callable[..., Any], protocol: int) -> None:
    values = pd.Series([cell(ids) for ids in PROMPTS], dtype=object)
    table = pd.DataFrame({"tok_input": values, **LABELS, "n": [1, 2, 3], "x": [0.5, math.nan, 1]})
    dataset = load_dataset(write_pickle(tmp_path / "a.pkl", table, protocol))
    assert rows(dataset) == PROMPTS
    assert dataset.columns.to_pydict() == {**LABELS, "n": [1, 2, 3], "x": [0.5, None, 1.0]}


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("kind", ["object", "str", "string[python]", "string[pyarrow]"])
def test_string_columns(tmp_path: Path, kind: str, protocol: int) -> None:
    texts = pd.Series(["a", None, "ü"], dtype=kind)
    table = frame(PROMPTS).assign(text=texts)
    dataset = load_dataset(write_pickle(tmp_path / "a.pkl", table, protocol))
    assert dataset.columns["text"].to_pylist() == ["a", None, "ü"]


def test_filtered_dataframe_keeps_row_order(tmp_path: Path) -> None:
    table = pd.DataFrame({"input_tokens": PROMPTS, **LABELS})
    dataset = load_dataset(write_pickle(tmp_path / "a.pkl", table[table.dataset == "aime25"][::-1]))
    assert rows(dataset) == [[9, 10], [5, 6, 7]]
    assert dataset.columns["ground_truth"].to_pylist() == ["3", "1"]


@pytest.mark.parametrize("protocol", [2, 5])
def test_builtin_containers(tmp_path: Path, protocol: int) -> None:
    columns = {"input_tokens": PROMPTS, **LABELS}
    dicts = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for value in (columns, dicts, {**columns, "input_tokens": [np.array(p) for p in PROMPTS]}):
        dataset = load_dataset(write_pickle(tmp_path / "a", value, protocol))
        assert rows(dataset) == PROMPTS
        assert dataset.columns.to_pydict() == LABELS


def test_mixed_columns_become_text(tmp_path: Path) -> None:
    table = {"input_tokens": PROMPTS, "ground_truth": [204, "B", None], "m": [{("a",): 1}, 2, "x"]}
    dataset = load_dataset(write_pickle(tmp_path / "a", table))
    assert dataset.columns.to_pydict() == {
        "ground_truth": ["204", "B", None],
        "m": ["{('a',): 1}", "2", "x"],
    }


def test_content_decides_the_format_and_is_hashed(tmp_path: Path) -> None:
    parquet = write_parquet(tmp_path / "a.pkl", PROMPTS)
    pickled = write_pickle(tmp_path / "b.parquet", frame(PROMPTS))
    assert rows(load_dataset(parquet)) == rows(load_dataset(str(pickled))) == PROMPTS
    assert load_dataset(parquet).sha256 == hashlib.sha256(parquet.read_bytes()).hexdigest()


def test_first_token_column_wins(tmp_path: Path) -> None:
    pq.write_table(pa.table({"input_tokens": [[1]], "tok_input": [[2]]}), tmp_path / "a")
    dataset = load_dataset(tmp_path / "a")
    assert dataset.token_column == "tok_input" and rows(dataset) == [[2]]
    assert dataset.columns.column_names == ["input_tokens"]


def test_max_samples(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a", PROMPTS)
    assert rows(load_dataset(path, max_samples=2)) == PROMPTS[:2]
    assert len(load_dataset(path, max_samples=99)) == 3


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as info:
        load_dataset(path)
    assert str(path) in str(info.value)
    return str(info.value)


def test_file_errors(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "missing")
    assert "Is a directory" in refused(tmp_path)
    for data, expected in (
        (b"", "empty file"),
        (b"\x1f\x8b\x08\x00rest", "neither parquet nor a pickle"),
        (b"(lp0\n.", "neither parquet nor a pickle"),  # protocol 0
        (b"\x80\x06.", "neither parquet nor a pickle"),
        (b"\x80", "not a readable pickle"),
        (b"PAR1", "truncated or damaged parquet"),
    ):
        (tmp_path / "a").write_bytes(data)
        assert expected in refused(tmp_path / "a")


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_truncated(tmp_path: Path, keep: float) -> None:
    parquet = write_parquet(tmp_path / "a.parquet", PROMPTS * 50)
    pickled = write_pickle(tmp_path / "a.pkl", frame(PROMPTS * 50))
    for path, expected in ((parquet, "damaged parquet"), (pickled, "not a readable pickle")):
        data = path.read_bytes()
        path.write_bytes(data[: max(4, int(len(data) * keep))])
        assert expected in refused(path)


def test_missing_column_lists_what_is_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a"], "n": [1]}), tmp_path / "a")
    assert "no column tok_input or input_tokens; it has prompt, n" in refused(tmp_path / "a")
    assert "it has prompt" in refused(write_pickle(tmp_path / "b", {"prompt": ["a"]}))
    assert "it has none" in refused(write_pickle(tmp_path / "b", []))


@pytest.mark.parametrize("value", [5, "text", [1, 2], ["ab"], {"input_tokens": 3}, (1,)])
def test_pickle_without_a_table(tmp_path: Path, value: object) -> None:
    assert "a DataFrame, a list of dicts" in refused(write_pickle(tmp_path / "a", value))


def test_columns_of_different_lengths(tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "a", {"input_tokens": PROMPTS, "n": [1, 2]})
    assert "column n has 2 rows, input_tokens 3" in refused(path)


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pd.DataFrame([[[1], [2]]], columns=["input_tokens", "input_tokens"])
    assert "two columns of one name" in refused(write_pickle(tmp_path / "a", table))


def test_zero_rows(tmp_path: Path) -> None:
    assert "has no rows" in refused(write_parquet(tmp_path / "a", [], pa.list_(pa.int32())))
    assert "has no rows" in refused(write_pickle(tmp_path / "b", frame([])))


INT = pa.list_(pa.int64())
FLOAT = pa.list_(pa.float64())
BAD_PARQUET = [
    ([[1], [2], []], INT, 2, "no tokens"),
    ([[1], None, [2]], INT, 1, "null instead"),
    ([[1], [2, None]], INT, 1, "null or NaN"),
    ([[1.0], [2.0], [3.0, math.nan]], FLOAT, 2, "not a number"),
    ([[1.0], [2.5]], FLOAT, 1, "2.5 is not an integer"),
    ([[1.0], [math.inf]], FLOAT, 1, "inf is above int32"),
    ([[1], [2, -3]], INT, 1, "-3 is negative"),
    ([[1], [2], [2**31]], INT, 2, "2147483648 is above int32"),
    ([[2**64 - 1]], pa.list_(pa.uint64()), 0, "is above int32"),
    ([["a"]], pa.list_(pa.string()), 0, "'a' is a string"),
    ([[True]], pa.list_(pa.bool_()), 0, "True is a bool"),
    ([[[1, 2]]], pa.list_(INT), 0, "[1, 2] is a list<"),
    (["abc"], pa.string(), 0, "'abc' is a string, not a list"),
    ([7], pa.int64(), 0, "7 is a int64, not a list"),
    ([None], pa.null(), 0, "null instead"),
]


@pytest.mark.parametrize(("tokens", "kind", "row", "expected"), BAD_PARQUET)
def test_bad_tokens_in_parquet(
    tmp_path: Path, tokens: Any, kind: pa.DataType, row: int, expected: str
) -> None:
    message = refused(write_parquet(tmp_path / "a", tokens, kind))
    assert f"column input_tokens, row {row}: " in message and expected in message
    assert "from 0 to 2147483647" in message


def test_row_numbers_count_over_row_groups(tmp_path: Path) -> None:
    tokens = [[1, 2]] * 9 + [[3, -4]] + [[5]]
    pq.write_table(pa.table({"input_tokens": tokens}), tmp_path / "a", row_group_size=3)
    assert "row 9: -4 is negative" in refused(tmp_path / "a")


BAD_CELLS = [
    ([], "no tokens"),
    (None, "null or NaN instead"),
    (math.nan, "null or NaN instead"),
    ([1, None], "null or NaN"),
    ([1, math.nan], "null or NaN"),
    ([1, 2.5], "2.5 is not an integer"),
    (np.array([1, 2.5]), "2.5 is not an integer"),
    ([1, -2], "-2 is negative"),
    ([2**31], "above int32"),
    ([2**70], "not a flat list of integers"),
    (np.array([2**63], np.uint64), "above int32"),
    ("12 13", "is a str, not a list"),
    (b"\x01\x02", "is a bytes, not a list"),
    ({1, 2}, "is a set, not a list"),
    ({"a": 1}, "is a dict, not a list"),
    (3, "is a int, not a list"),
    (["1"], "'1' is a string"),
    ([1, "2"], "not a flat list of integers"),
    ([True], "True is a bool"),
    (np.array([True]), "True is a bool"),
    ([[1, 2]], "[1, 2] is a list<"),
    (np.array([[1, 2], [3, 4]]), "not a flat list of integers"),
]


@pytest.mark.parametrize(("cell", "expected"), BAD_CELLS)
def test_bad_tokens_in_pickle(tmp_path: Path, cell: Any, expected: str) -> None:
    tokens = [[1], [2, 3], cell, [4]]
    message = refused(write_pickle(tmp_path / "a", {"input_tokens": tokens}))
    assert "column input_tokens, row 2: " in message and expected in message


RAGGED = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9), min_size=1)


@settings(max_examples=40, deadline=None)
@given(RAGGED, st.integers(2, 5), st.booleans(), st.integers(1, 4))
def test_round_trip(prompts: list[list[int]], protocol: int, arrays: bool, group: int) -> None:
    cells: list[Any] = [np.array(p) for p in prompts] if arrays else prompts
    with tempfile.TemporaryDirectory() as folder:
        pickled = write_pickle(Path(folder, "a"), frame(cells), protocol)
        table = pa.table({"input_tokens": pa.array(prompts)})
        pq.write_table(table, Path(folder, "b"), row_group_size=group)
        assert rows(load_dataset(pickled)) == prompts
        assert rows(load_dataset(Path(folder, "b"))) == prompts
