"""Reading pickles that nobody vouched for.

`pickle.load` runs whatever the file names. This unpickler knows the names below and no others, and
each stands for an inert class or a plain container (see `standins`): no module is ever imported and
no attribute looked up, so dotted names and gadgets have nothing to walk. Memory bombs and
bottomless nesting are not covered: they can end the process, not take it over. The names are those
that pandas 1 to 3 and numpy 1 to 2 write, protocols 2 to 5.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import IO, Any

from core.errors import ConfigError
from dataset import standins as s

_BUILTINS = {t.__name__: t for t in (bytearray, bytes, frozenset, set, slice)}
_MULTIARRAY = {"_reconstruct": s.Reconstruct, "scalar": s.NumpyScalar}
_NUMERIC = {"_frombuffer": s.FromBuffer}
_STRING = {"StringArray": s.Strings, "StringArrayNumpySemantics": s.Strings}
_ARROW = {"ArrowStringArray": s.Strings, "ArrowStringArrayNumpySemantics": s.Strings}
_INDEX = {"Index": s.Inert}
_RANGE = {"RangeIndex": s.Inert}
_FRAME = {"DataFrame": s.Frame}
_NA = {"NA": None}
_STRING_DTYPE = {"StringDtype": s.Inert}

ALLOWED: dict[str, dict[str, Any]] = {
    "__builtin__": _BUILTINS,  # protocol 2's name for builtins
    "builtins": _BUILTINS,
    "collections": {"OrderedDict": dict},
    "_codecs": {"encode": s.Latin1},
    "numpy": {"dtype": s.DType, "ndarray": s.Inert},
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
    "numpy.core.numeric": _NUMERIC,
    "numpy._core.numeric": _NUMERIC,
    "pandas": _FRAME | _INDEX | _RANGE | _NA | _STRING_DTYPE,  # pandas 3
    "pandas.arrays": _STRING | _ARROW,
    "pandas.core.frame": _FRAME,  # pandas 1 and 2
    "pandas.core.indexes.base": _INDEX | {"_new_Index": s.Index},
    "pandas.core.indexes.range": _RANGE,
    "pandas.core.indexes.numeric": {"Int64Index": s.Inert},
    "pandas.core.internals.managers": {"BlockManager": s.Manager},
    "pandas.core.internals.blocks": {"new_block": s.Block},  # pandas 1.3
    "pandas._libs.internals": {"_unpickle_block": s.Block},
    "pandas._libs.arrays": {"__pyx_unpickle_NDArrayBacked": s.Strings},
    "pandas._libs.missing": _NA,
    "pandas.core.arrays.string_": _STRING | _STRING_DTYPE,
    "pandas.core.arrays.string_arrow": _ARROW,
    "pyarrow.lib": {
        "_restore_array": s.ArrowArray,
        "chunked_array": s.ArrowChunks,
        "py_buffer": s.ArrowBuffer,
        "type_for_alias": s.ArrowType,
    },
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], source: str) -> None:
        super().__init__(file)
        self._source = source

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module][name]
        except KeyError:
            raise ConfigError(
                f"{self._source}: this pickle asks for {module}.{name}, which tokens and labels do "
                f"not need, and was not loaded; if you trust it, convert it to parquet elsewhere "
                f"(pandas.read_pickle(...).to_parquet(...)) and pass the parquet file"
            ) from None


def loads(data: bytes, source: str) -> object:
    """Return what `data` pickles; a DataFrame comes back as `standins.Frame`.

    `source` names the data in messages. ConfigError: a name off the list, or damaged data.
    """
    return _load(io.BytesIO(data), source)


def load(path: Path) -> object:
    """Return what the file at `path` pickles, as `loads` does."""
    with path.open("rb") as file:
        return _load(file, str(path))


def _load(file: IO[bytes], source: str) -> object:
    try:
        return _Unpickler(file, source).load()
    except ConfigError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ConfigError(
            f"{source}: not a readable pickle ({reason}): truncated, damaged or of an unknown "
            f"layout; fetch it again, or convert it to parquet where it opens"
        ) from error
