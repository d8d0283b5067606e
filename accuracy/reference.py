"""The reference data: for each sample its dataset, its ground truth, and which problem it repeats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from accuracy.registry import require_scorers
from core.errors import ConfigError
from core.rules import ACCURACY_SAMPLES
from dataset import Dataset, load_dataset


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One row per sample that is expected; row number = LoadGen's qsl_idx."""

    sha256: str
    datasets: tuple[str, ...]  # lower case
    truths: tuple[object, ...]
    problems: npt.NDArray[np.int64]  # rows with the same prompt have the same number

    def __len__(self) -> int:
        return len(self.datasets)


def load_reference(path: Path, expected: int | None) -> Reference:
    """Read and check the file; `expected` None: the official count, which it must have exactly.

    ConfigError: a column is missing, rows are too few, or no scorer knows a dataset.
    """
    dataset = load_dataset(path)
    if expected is None and len(dataset) != ACCURACY_SAMPLES:
        raise ConfigError(
            f"{path}: {len(dataset)} rows, MLPerf's accuracy data has {ACCURACY_SAMPLES}; "
            f"if this file is meant, pass --expected {len(dataset)}"
        )
    if expected is not None and not 1 <= expected <= len(dataset):
        raise ConfigError(f"--expected {expected}: {path} has {len(dataset)} rows")
    dataset = dataset if expected is None else dataset.head(expected)
    names = tuple(str(name or "").lower() for name in _column(dataset, "dataset"))
    require_scorers(names)
    truths = tuple(_column(dataset, "ground_truth"))
    return Reference(dataset.sha256, names, truths, _problems(dataset, names))


def _column(dataset: Dataset, name: str) -> list[object]:
    if name not in dataset.columns.column_names:
        raise ConfigError(f"{dataset.path}: no column {name}; give the accuracy reference data")
    cells: list[object] = dataset.columns.column(name).to_pylist()
    return cells


def _problems(dataset: Dataset, names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    prompts = [(name, dataset.prompt(row).tobytes()) for row, name in enumerate(names)]
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    return np.array([numbers[prompt] for prompt in prompts])
