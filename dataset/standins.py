"""What the names in a pickle stand for here: harmless classes of ours instead of pandas and numpy.

A pickle is a program that calls what it names. Even plain-looking targets are unsafe with hostile
arguments (numpy.dtype.__setstate__ can declare bytes to be pointers, Arrow buffers can lie about
their sizes), so pandas is never called, numpy and Arrow only with checked values, and a DataFrame
of any pandas version is read out of the pickled parts.

Every class here has `__setstate__`: pickle's BUILD aimed at the class itself then fails for want of
an argument, instead of overwriting the class's attributes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}|O8?")
_STRINGS = {"string": pa.string(), "large_string": pa.large_string()}


def _raw(data: Any) -> bytes:
    """Return `data` as bytes that no later opcode can change."""
    if not isinstance(data, bytes | bytearray):
        raise TypeError(f"bytes expected, not {type(data).__name__}")
    return bytes(data)


class Inert:
    """Keeps what it was built from and does nothing: dtypes, index classes, string dtypes."""

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class DType(Inert):
    """numpy.dtype: one number, bool, string or object type; never records or subarrays."""

    def resolve(self) -> np.dtype[Any]:
        if not _DTYPE.fullmatch(self.args[0]):
            raise ValueError(f"numpy dtype {self.args[0]!r}")
        plain: np.dtype[Any] = np.dtype(self.args[0])
        return plain.newbyteorder(self.state[1]) if self.state else plain


class Array(np.ndarray[Any, np.dtype[Any]]):
    """numpy.ndarray whose state is checked before numpy sees it."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        real = dtype.resolve()
        data = list(data) if real.hasobject else _raw(data)
        held = len(data) if real.hasobject else len(data) / real.itemsize
        if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) != held:
            raise ValueError("array data and shape disagree")
        checked: Any = (1, shape, real, bool(fortran), data)
        super().__setstate__(checked)


class Reconstruct(Inert):
    """numpy's `_reconstruct`: the empty array that the state then fills."""

    def __new__(cls, *args: Any) -> Any:
        return np.ndarray.__new__(Array, (0,), np.int8)


class FromBuffer(Inert):
    """numpy's `_frombuffer`, protocol 5's way to an array."""

    def __new__(cls, data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Any:
        flat = np.frombuffer(_raw(data), dtype.resolve())
        native = flat.astype(flat.dtype.newbyteorder("="), copy=False)  # as __setstate__ makes it
        return native.reshape(shape, order=order).view(Array)


class NumpyScalar(Inert):
    """numpy's `scalar`, as a Python value."""

    def __new__(cls, dtype: Any, data: Any) -> Any:
        return np.frombuffer(_raw(data), dtype.resolve(), count=1)[0].item()


class Latin1(Inert):
    """`_codecs.encode(text, "latin1")`: how protocol 2 spells bytes."""

    def __new__(cls, text: str, _encoding: str) -> Any:
        return text.encode("latin1")


class ArrowType(Inert):
    """pyarrow's `type_for_alias`, for strings."""

    def __new__(cls, alias: str) -> Any:
        return _STRINGS[alias]


class ArrowBuffer(Inert):
    """pyarrow's `py_buffer`; a copy, so that nothing can change it after validation."""

    def __new__(cls, data: Any) -> Any:
        return pa.py_buffer(_raw(data))


class ArrowArray(Inert):
    """pyarrow's `_restore_array`, for strings, fully validated."""

    def __new__(cls, data: Any) -> Any:
        kind, length, _nulls, offset, buffers, *_ = data
        array = pa.Array.from_buffers(kind, length, buffers, offset=offset)
        array.validate(full=True)
        return array


class ArrowChunks(Inert):
    """pyarrow's `chunked_array`."""

    def __new__(cls, chunks: Any, kind: Any = None) -> Any:
        return pa.chunked_array(chunks, kind)


class Strings(Inert):
    """A pandas string column: its state holds one numpy or Arrow array, under changing names."""

    def values(self) -> Any:
        parts = self.state.values() if isinstance(self.state, dict) else self.state
        for part in parts:
            if isinstance(part, (np.ndarray, pa.Array, pa.ChunkedArray)):
                return part
        raise ValueError("a string column without strings")


class Index(Inert):
    """pandas' `_new_Index(class, fields)`."""

    def labels(self) -> list[str]:
        fields = self.args[1]
        if "data" in fields:
            return [str(label) for label in values_of(fields["data"])]
        return [str(n) for n in range(fields["start"], fields["stop"], fields["step"])]


class Block(Inert):
    """pandas' `_unpickle_block(values, placement, ndim)`."""


class Manager(Inert):
    """pandas' BlockManager: (blocks, axes) since 1.3, a state of four parts before."""

    def parts(self) -> tuple[list[tuple[Any, Any]], Index]:
        if self.state is None:
            blocks, axes = self.args[:2]
            return [block.args[:2] for block in blocks], axes[0]
        state = self.state[3]["0.14.1"]
        return [(block["values"], block["mgr_locs"]) for block in state["blocks"]], state["axes"][0]


class Frame(Inert):
    """pandas.DataFrame."""

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return the columns by name, each of one length; the row index is dropped."""
        blocks, axis = self.state.get("_mgr", self.state.get("_data")).parts()
        names = axis.labels()
        found = {name: column for block in blocks for name, column in _block(names, *block)}
        if len(found) != len(names) or len(set(names)) != len(names):
            raise ValueError(f"a DataFrame with two columns of one name: {names}")
        return {name: found[name] for name in names}


def values_of(values: Any) -> Any:
    """Return rows as Python or numpy values."""
    values = values.values() if isinstance(values, Strings) else values
    return values.to_pylist() if isinstance(values, (pa.Array, pa.ChunkedArray)) else values


def _block(names: list[str], values: Any, placement: Any) -> list[tuple[str, Sequence[Any]]]:
    rows = values_of(values)
    rows = rows if getattr(rows, "ndim", 1) == 2 else [rows]
    places = range(len(names))[placement] if isinstance(placement, slice) else placement
    return [(names[place], row) for place, row in zip(places, rows, strict=True)]
