"""Dataset: views, truncation and the check against an engine's limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from core.errors import ConfigError
from dataset import Dataset


def make() -> Dataset:
    return Dataset(
        path=Path("some.parquet"),
        sha256="00",
        token_column="input_tokens",
        ids=np.array([5, 6, 7, 8, 9, 10], np.int32),
        offsets=np.array([0, 3, 4, 6], np.int64),
        columns=pa.table({"ground_truth": ["a", "b", "c"]}),
    )


def test_rows_are_views() -> None:
    dataset = make()
    assert [dataset.prompt(i).tolist() for i in range(len(dataset))] == [[5, 6, 7], [8], [9, 10]]
    assert dataset.prompt(1).base is dataset.ids
    assert dataset.lengths.tolist() == [3, 1, 2]


@pytest.mark.parametrize("index", [-1, 3])
def test_rows_outside(index: int) -> None:
    with pytest.raises(IndexError, match=f"row {index} of a dataset of 3"):
        make().prompt(index)


def test_head_cuts_ids_and_columns() -> None:
    head = make().head(2)
    assert (len(head), head.ids.tolist()) == (2, [5, 6, 7, 8])
    assert head.columns.to_pydict() == {"ground_truth": ["a", "b"]}
    assert head.ids.base is not None and len(make().head(3)) == len(make().head(10)) == 3


@pytest.mark.parametrize("rows", [0, -1])
def test_head_of_nothing(rows: int) -> None:
    with pytest.raises(ConfigError, match="--max-samples"):
        make().head(rows)


def test_check_passes_at_the_limits() -> None:
    make().check(context=103, max_tokens=100, vocab=11)
    make().check(context=None, max_tokens=10**9, vocab=11)


def test_check_refuses_ids_beyond_the_vocabulary() -> None:
    with pytest.raises(
        ConfigError, match=r"some.parquet: column input_tokens, row 2: id 10 .* of 10"
    ):
        make().check(context=None, max_tokens=1, vocab=10)


def test_check_refuses_prompts_beyond_the_context() -> None:
    message = (
        r"some.parquet: column input_tokens, row 0: 3 tokens \+ --max-tokens 100 exceed the "
        r"engine's context of 101 \(so do 2 of 3 rows\).* at least 103"
    )
    with pytest.raises(ConfigError, match=message):
        make().check(context=101, max_tokens=100, vocab=11)
