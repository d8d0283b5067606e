"""One screen about a dataset: enough to see that it is the right file before hours are spent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from core.rules import ACCURACY_SAMPLES, PERFORMANCE_SAMPLES
from dataset.dataset import Dataset

# Rows of MLPerf's gpt-oss-120b files (TEST07 runs GPQA's 198 problems five times).
MLPERF_ROWS = {PERFORMANCE_SAMPLES: "performance", ACCURACY_SAMPLES: "accuracy", 990: "TEST07"}
_BINS, _BAR = 10, 40


def describe(dataset: Dataset) -> str:
    """Return the description as lines of text, without a final newline."""
    return "\n".join(_lines(dataset))


def _lines(dataset: Dataset) -> Iterator[str]:
    yield f"file      {dataset.path}"
    yield f"sha256    {dataset.sha256}"
    yield f"rows      {len(dataset)} ({_purpose(len(dataset))})"
    yield f"columns   {', '.join([dataset.token_column, *dataset.columns.column_names])}"
    yield f"dataset   {_by_dataset(dataset)}"
    yield f"max id    {dataset.ids.max()}"
    lengths = dataset.lengths
    p50, p90, p99 = np.percentile(lengths, (50, 90, 99), method="inverted_cdf")
    yield (
        f"ISL       min {lengths.min()}  mean {lengths.mean():.1f}  p50 {p50}  p90 {p90}  "
        f"p99 {p99}  max {lengths.max()}  (tokens)"
    )
    yield from _histogram(lengths)


def _purpose(rows: int) -> str:
    wanted = ", ".join(f"{n} {purpose}" for n, purpose in MLPERF_ROWS.items())
    if rows in MLPERF_ROWS:
        return f"what MLPerf asks for {MLPERF_ROWS[rows]}"
    return f"not an MLPerf count: {wanted}"


def _by_dataset(dataset: Dataset) -> str:
    if "dataset" not in dataset.columns.column_names:
        return "no such column"
    counts = dataset.columns["dataset"].value_counts().to_pylist()
    return ", ".join(f"{entry['values']} {entry['counts']}" for entry in counts)


def _histogram(lengths: npt.NDArray[np.int64]) -> Iterator[str]:
    low, high = int(lengths.min()), int(lengths.max())
    step = max(1, -(-(high + 1 - low) // _BINS))
    counts = np.bincount((lengths - low) // step)
    for bin_, count in enumerate(counts):
        start = low + bin_ * step
        bar = "#" * -(-int(count) * _BAR // int(counts.max()))
        yield f"{start:>8}-{start + step - 1:<7} {count:>5} {bar}"
