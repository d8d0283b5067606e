"""Hostile pickles: whatever they name is refused, whatever they claim about buffers is checked."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from core.errors import ConfigError
from dataset import load_dataset, safe_pickle, standins

HOSTILE = [
    ("os", "system"),
    ("posix", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("__builtin__", "eval"),
    ("builtins", "type"),
    ("builtins", "object"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("importlib", "import_module"),
    ("types", "FunctionType"),
    ("pickle", "loads"),
    ("copyreg", "_reconstructor"),
    ("copyreg", "__newobj__"),
    ("_codecs", "decode"),
    ("codecs", "encode"),
    ("numpy", "load"),
    ("numpy", "memmap"),
    ("numpy", "fromfile"),
    ("numpy.f2py", "compile"),
    ("numpy.f2py.diagnose", "run_command"),
    ("numpy._core.multiarray", "fromfile"),
    ("numpy.testing._private.utils", "runstring"),
    ("pandas", "eval"),
    ("pandas", "read_pickle"),
    ("pandas.io.pickle", "read_pickle"),
    ("pandas.core.computation.eval", "eval"),
    ("pandas", "Categorical"),
    ("pyarrow", "memory_map"),
    ("pyarrow.lib", "OSFile"),
    ("dataset.load", "load_dataset"),
    # attribute walks: protocol 4 resolves dots, here nothing may
    ("numpy", "dtype.__class__"),
    ("pandas", "DataFrame.eval"),
    ("pandas", "io.common.os.system"),
    ("builtins", "bytes.fromhex"),
    ("collections", "OrderedDict.__init__.__globals__"),
    ("_codecs", "encode.__self__"),
    ("dataset.standins", "np"),
]


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def arguments(*values: object) -> bytes:
    return pickle.dumps(values, protocol=2)[2:-1]


def call(module: str, name: str, *values: object) -> bytes:
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + arguments(*values) + b"R."


def refused(data: bytes) -> str:
    with pytest.raises(ConfigError) as info:
        safe_pickle.loads(data, "some source")
    assert str(info.value).startswith("some source: ")
    return str(info.value)


@pytest.mark.parametrize(("module", "name"), HOSTILE)
def test_names_off_the_list(module: str, name: str) -> None:
    old = b"\x80\x02c" + f"{module}\n{name}\n".encode()
    for data in (call(module, name, "x"), old + b".", old + arguments("x") + b"R."):
        message = refused(data)
        assert f"asks for {module}.{name}," in message and "parquet" in message
    instance = b"\x80\x02(" + f"i{module}\n{name}\n.".encode()
    assert f"asks for {module}.{name}," in refused(instance)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_runs_however_deep_it_hides(tmp_path: Path, protocol: int) -> None:
    evil = Evil(tmp_path / "marker")
    array = np.empty(2, object)
    array[:] = [[1], evil]
    hiding = [evil, [evil], {"a": evil}, array, pd.DataFrame({"input_tokens": [[1], evil]})]
    for value in hiding:
        path = tmp_path / "a.pkl"
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        with pytest.raises(ConfigError, match=r"a\.pkl: this pickle asks for posix\.system"):
            load_dataset(path)
        assert not evil.marker.exists()
    pickle.loads(pickle.dumps(evil))
    assert evil.marker.exists()  # the pickle would have worked


def test_every_admitted_name_is_ours_or_a_container() -> None:
    plain = (bytearray, bytes, frozenset, set, slice, dict, None)
    for module, names in safe_pickle.ALLOWED.items():
        for name, target in names.items():
            inert = isinstance(target, type) and issubclass(target, standins.Inert)
            assert inert or target in plain, f"{module}.{name}"
            assert "." not in name


def test_state_cannot_be_planted_on_the_classes() -> None:
    for module, names in safe_pickle.ALLOWED.items():
        for name in names:
            if names[name] is None:
                continue
            body = text(module) + text(name) + b"\x93" + arguments(None, {"planted": 1})
            refused(b"\x80\x04" + body + b"b.")
            assert not hasattr(names[name], "planted")


def test_persistent_ids_and_extension_codes() -> None:
    refused(b"\x80\x04\x8c\x01xQ.")
    refused(b"\x80\x02\x82\x01.")


class Raw:
    """Pickles as a call of numpy's or pyarrow's own constructor with arguments of our choice."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def array_with(shape: Any, dtype: Any, data: Any) -> bytes:
    function = np.zeros(1).__reduce__()[0]
    state = (1, shape, dtype, False, data)
    return pickle.dumps(Raw(function, (np.ndarray, (0,), b"b"), state))


@pytest.mark.parametrize(
    ("shape", "kind", "data"),
    [
        ((4,), "i8", b"\0" * 8),
        ((1,), "i8", b"\0" * 9),
        ((3,), "O8", [1]),  # numpy itself reads beyond the list
        ((1,), "O8", b"\0" * 8),
        ((1,), "i8", [0]),
        ((-1, -1), "i8", b"\0" * 8),
        ((2**40, 2**40), "i8", b""),
        ((1.0,), "i8", b"\0" * 8),
        ((1,), "i8", "\0" * 8),
    ],
)
def test_arrays_that_lie(shape: Any, kind: str, data: Any) -> None:
    refused(array_with(shape, np.dtype(kind), data))


@pytest.mark.parametrize("kind", [[("a", "O"), ("b", "i4")], "V8", "M8[ns]", [("a", "3i4")], "c16"])
def test_dtypes_off_the_list(kind: Any) -> None:
    refused(pickle.dumps(np.zeros(2, kind), protocol=4))
    refused(pickle.dumps(np.zeros(2, kind), protocol=5))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["i1", "<u4", ">i8", "f2", ">f8", "?", "S3", "<U2", "O"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_honest_arrays(kind: str, order: Any, protocol: int) -> None:
    array = np.array([[1, 0, 2], [3, 4, 5]]).astype(kind, order=order)
    found = safe_pickle.loads(pickle.dumps(array, protocol=protocol), "x")
    assert isinstance(found, np.ndarray) and found.dtype == array.dtype.newbyteorder("=")
    assert found.tolist() == array.tolist()


def strings_with(offsets: list[int], data: bytes, length: int) -> bytes:
    function = pa.array(["a"]).__reduce__()[0]
    lied = struct.pack(f"<{len(offsets)}i", *offsets)
    buffers = [None, Raw(pa.py_buffer, (lied,)), Raw(pa.py_buffer, (data,))]
    return pickle.dumps(Raw(function, ((pa.string(), length, 0, 0, buffers, [], None),)))


def test_arrow_buffers_that_lie() -> None:
    honest = safe_pickle.loads(strings_with([0, 1, 3], b"abc", 2), "x")
    assert isinstance(honest, pa.Array) and honest.to_pylist() == ["a", "bc"]
    for offsets, data, length in (
        ([0, 1, 99999], b"abc", 2),
        ([0, 3, 1], b"abc", 2),
        ([-5, 1, 3], b"abc", 2),
        ([0, 1, 3], b"abc", 1000),
        ([0, 1, 3], b"abc", -1),
        ([0, 1], b"\xff", 1),
    ):
        refused(strings_with(offsets, data, length))
    refused(pickle.dumps(pa.array([1])))


def test_plain_values_come_back() -> None:
    value = {
        "a": [1, 2.5, None, True, "ü", b"\xff\x00", b"", (1,), 2**70],
        "s": {1},
        "f": frozenset(),
    }
    for protocol in (2, 3, 4, 5):
        assert safe_pickle.loads(pickle.dumps(value, protocol=protocol), "x") == value
        assert safe_pickle.loads(pickle.dumps(OrderedDict(b=1, a=2), protocol=protocol), "x") == {
            "b": 1,
            "a": 2,
        }
        for scalar in (np.int64(3), np.float32(0.5), np.str_("ab"), np.bool_(True)):
            found = safe_pickle.loads(pickle.dumps(scalar, protocol=protocol), "x")
            assert found == scalar and not isinstance(found, np.generic)


def test_load_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps("[]"))
    assert safe_pickle.load(tmp_path / "a") == "[]"


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"_mgr": 3},
        {"_mgr": standins.Manager()},
        {"_mgr": standins.Manager([], [])},
        {
            "_mgr": standins.Manager(
                [standins.Block(5, [0], 2)], [standins.Index(0, {"data": ["a"]})]
            )
        },
        {"_mgr": standins.Manager([], [standins.Index(0, {"data": ["a"]})])},
        {"_mgr": standins.Manager([], [standins.Index(0, {"data": standins.Strings()})])},
    ],
)
def test_frames_of_odd_parts_are_errors_not_tracebacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Any
) -> None:
    frame = standins.Frame()
    frame.__setstate__(state)
    monkeypatch.setattr(safe_pickle, "load", lambda path: frame)
    (tmp_path / "a").write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match="table of unknown layout"):
        load_dataset(tmp_path / "a")
