"""DataFrames as older pandas and numpy pickled them.

Those versions are not installed: pandas 2 and numpy 1 differ from today's pickles in names only,
which protocols 2 and 3 hold as text; pandas before 1.3 kept its blocks in another shape, rebuilt
here from its `BlockManager.__getstate__`.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dataset import load_dataset

PROMPTS = [[5, 6, 7], [8], [9, 10]]
RENAMED = {
    b"cpandas\nDataFrame\n": b"cpandas.core.frame\nDataFrame\n",
    b"cpandas\nIndex\n": b"cpandas.core.indexes.base\nIndex\n",
    b"cpandas\nRangeIndex\n": b"cpandas.core.indexes.range\nRangeIndex\n",
    b"cpandas\nNA\n": b"cpandas._libs.missing\nNA\n",
    b"cpandas\nStringDtype\n": b"cpandas.core.arrays.string_\nStringDtype\n",
    b"cpandas.arrays\nStringArray\n": b"cpandas.core.arrays.string_\nStringArray\n",
    b"cpandas.arrays\nArrowStringArray\n": b"cpandas.core.arrays.string_arrow\nArrowStringArray\n",
    b"cnumpy._core.multiarray\n": b"cnumpy.core.multiarray\n",
}
PANDAS_13 = {
    b"cpandas._libs.internals\n_unpickle_block\n": b"cpandas.core.internals.blocks\nnew_block\n"
}


def rename(data: bytes, names: dict[bytes, bytes]) -> bytes:
    for new, old in names.items():
        data = data.replace(new, old)
    return data


def check(path: Path, data: bytes, expected: dict[str, list[Any]]) -> None:
    path.write_bytes(data)
    dataset = load_dataset(path)
    assert [dataset.prompt(i).tolist() for i in range(len(dataset))] == PROMPTS
    assert dataset.columns.to_pydict() == expected


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("names", [RENAMED, RENAMED | PANDAS_13], ids=["2", "1.3"])
def test_renamed(tmp_path: Path, names: dict[bytes, bytes], protocol: int) -> None:
    columns = {"a": ["x", None, "y"], "b": ["u", None, "v"]}
    table = pd.DataFrame({"tok_input": [np.array(p) for p in PROMPTS], "n": [1, 2, 3]})
    table["a"] = pd.array(columns["a"], dtype="string[python]")
    table["b"] = pd.array(columns["b"], dtype="string[pyarrow]")
    new = pickle.dumps(table, protocol=protocol)
    old = rename(new, names)
    assert all(name not in old for name in names) and all(name in new for name in names)
    check(tmp_path / "a", old, {"n": [1, 2, 3], **columns})


def test_numpy_1_arrays_of_protocol_5(tmp_path: Path) -> None:
    new = pickle.dumps({"input_tokens": [np.array(p) for p in PROMPTS]}, protocol=5)
    name, old = b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric"
    assert name in new
    frameless = new[:2] + new[11:]  # the frame's length would not fit the shorter name
    check(tmp_path / "a", frameless.replace(name, old), {})


class Int64Index:
    """pandas 1's class of integer row indexes, as a name."""


class BlockManager:
    """pandas before 1.3: pickled by the state of `__getstate__`."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        return self.state


class DataFrame:
    """pandas 1: `_data` (1.0) or `_mgr` beside bookkeeping."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        return self.state


def _new_Index(cls: type, fields: dict[str, Any]) -> None:
    raise AssertionError("only pickled by name")


class AnIndex:
    def __init__(self, cls: type, **fields: Any) -> None:
        self.reduced = (_new_Index, (cls, fields))

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", ["_data", "_mgr"])
def test_blocks_of_pandas_before_1_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, protocol: int
) -> None:
    for module, thing in (
        ("pandas.core.frame", DataFrame),
        ("pandas.core.internals.managers", BlockManager),
        ("pandas.core.indexes.numeric", Int64Index),
        ("pandas.core.indexes.base", _new_Index),
    ):
        monkeypatch.setattr(thing, "__module__", module)
        fake: Any = ModuleType(module)
        setattr(fake, thing.__name__, thing)
        fake.Index = pd.Index
        monkeypatch.setitem(sys.modules, module, fake)
    texts = np.empty((2, 3), object)
    texts[0], texts[1] = ["x", "y", "z"], [PROMPTS[0], PROMPTS[1], PROMPTS[2]]
    labels = np.array(["dataset", "n", "tok_input"], object)
    axes = [
        AnIndex(Int64Index, data=labels, name=None),
        AnIndex(Int64Index, data=np.array([4, 5, 6]), name=None),
    ]
    blocks = [
        {"values": np.array([[1, 2, 3]]), "mgr_locs": slice(1, 2, 1)},
        {"values": texts, "mgr_locs": np.array([0, 2])},
    ]
    manager = BlockManager((axes, [], [], {"0.14.1": {"axes": axes, "blocks": blocks}}))
    frame = DataFrame({key: manager, "_typ": "dataframe", "_metadata": [], "attrs": {}})
    check(
        tmp_path / "a",
        pickle.dumps(frame, protocol=protocol),
        {"dataset": ["x", "y", "z"], "n": [1, 2, 3]},
    )
