"""The dataset as the harness holds it: all prompts end to end in one int32 array.

6396 prompts of about 8,000 ids are 200 MB as int32 and would be 2 GB as Python ints, so a prompt is
a view into the flat array and no list of ids exists anywhere. Row number = LoadGen's sample index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.errors import ConfigError


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Prompts and their other columns, one row per sample."""

    path: Path
    sha256: str  # hex digest of the file's bytes
    token_column: str  # the file's name for `ids`
    ids: npt.NDArray[np.int32]  # all prompts, end to end
    offsets: npt.NDArray[np.int64]  # len + 1; row i is ids[offsets[i]:offsets[i + 1]]
    columns: pa.Table  # every other column: dataset, ground_truth, ...

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def prompt(self, index: int) -> npt.NDArray[np.int32]:
        """Return row `index` as a view of shape (length,); IndexError outside 0..len-1."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of a dataset of {len(self)}")
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Prompt lengths in tokens, shape (len,)."""
        return np.diff(self.offsets)

    def head(self, rows: int) -> Dataset:
        """Return the first `rows` rows (all, where there are fewer) without copying."""
        if rows < 1:
            raise ConfigError(f"--max-samples {rows}: must be at least 1")
        offsets = self.offsets[: rows + 1]
        columns = self.columns.slice(0, len(offsets) - 1)
        return replace(self, ids=self.ids[: offsets[-1]], offsets=offsets, columns=columns)

    def check(self, context: int | None, max_tokens: int, vocab: int) -> None:
        """Raise ConfigError unless the engine can take every row.

        Every id must lie below `vocab`, and prompt + `max_tokens` within `context` tokens
        (None: the engine did not say). A run would otherwise meet these as failed queries.
        """
        if self.ids.max() >= vocab:
            position = int(np.argmax(self.ids >= vocab))
            raise ConfigError(
                f"{self._row(row_of(self.offsets, position))}: id {self.ids[position]} is outside "
                f"the engine's vocabulary of {vocab}; use the file tokenized for this model"
            )
        if context is not None:
            self._check_context(context, max_tokens)

    def _check_context(self, context: int, max_tokens: int) -> None:
        over = np.flatnonzero(self.lengths + max_tokens > context)
        if not len(over):
            return
        need = int(self.lengths.max()) + max_tokens
        raise ConfigError(
            f"{self._row(over[0])}: {self.lengths[over[0]]} tokens + --max-tokens {max_tokens} "
            f"exceed the engine's context of {context} (so do {len(over)} of {len(self)} rows); "
            f"start the engine with a context of at least {need} or lower --max-tokens"
        )

    def _row(self, row: int) -> str:
        return f"{self.path}: column {self.token_column}, row {row}"


def row_of(offsets: npt.NDArray[np.int64], position: int) -> int:
    """Return the row that holds flat position `position`; empty rows hold none."""
    return int(np.searchsorted(offsets, position, side="right")) - 1
