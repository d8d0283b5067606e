"""The outputs: accuracy.txt for the official checker, accuracy.json, samples.parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from accuracy.interval import Interval
from accuracy.sample import Sample
from accuracy.tally import Score
from core.errors import RunError

_TYPES = {"int": pa.int64(), "str": pa.string(), "str | None": pa.string(), "bool": pa.bool_()}
_SCHEMA = pa.schema([(field.name, _TYPES[str(field.type)]) for field in fields(Sample)])


def write_outputs(directory: Path, score: Score, samples: Sequence[Sample]) -> None:
    """Write the three files, each whole or not at all, accuracy.txt last."""
    rows = sorted(samples, key=lambda sample: (sample.qsl_idx, sample.offset))
    table = pa.Table.from_pylist([asdict(row) for row in rows], _SCHEMA)
    text = render(score).encode()
    summary = orjson.dumps(asdict(score), option=orjson.OPT_INDENT_2) + b"\n"
    try:
        (directory / "accuracy.txt").unlink(missing_ok=True)  # never an old score with new samples
        _whole(directory / "samples.parquet", lambda path: pq.write_table(table, path))
        _whole(directory / "accuracy.json", lambda path: path.write_bytes(summary))
        _whole(directory / "accuracy.txt", lambda path: path.write_bytes(text))
    except OSError as error:
        raise RunError(f"{directory}: not written ({error}); free space and score again") from error


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    temporary.replace(path)


def render(score: Score) -> str:
    """accuracy.txt: the table, then the line that the checker looks for, if there is a score.

    The checker takes `'exact_match': ` with single quotes and one space, and a number.
    """
    return "\n".join(_lines(score)) + "\n"


def _lines(score: Score) -> Iterator[str]:
    yield (
        f"{'dataset':<18} {'correct':>7} {'total':>6} {'repeats':>7} {'problems':>8} "
        f"{'no answer':>9} {'tokens':>7} {'accuracy':>9}  95 % interval"
    )
    for row in score.datasets:
        yield (
            f"{row.dataset:<18} {row.correct:>7} {row.total:>6} {row.repeats:>7} {row.problems:>8} "
            f"{row.without_answer:>9} {row.mean_tokens:>7.0f} {row.interval.share:>8.2%}  "
            f"{_limits(row.interval)}"
        )
    yield "interval: Wilson, with the effective number of answers, clustered by problem"
    yield f"samples: {score.samples} of {score.expected} expected; target: {score.target:.4f}"
    yield from (f"FAILED: {reason}" for reason in score.reasons)
    if score.score is None or score.interval is None:
        yield "NO SCORE: the run is not complete"
        return
    correct = sum(row.correct / row.repeats for row in score.datasets)
    total = sum(row.total / row.repeats for row in score.datasets)
    yield (
        f"FINAL SCORE: {score.score:.3f}% ({correct:.2f}/{total:.2f}), 95 % interval "
        f"{_limits(score.interval)}, {'PASSED' if score.passed else 'FAILED'}"
    )
    yield f"'exact_match': {score.score:.3f}"


def _limits(interval: Interval) -> str:
    return f"{interval.low * 100:.2f} to {interval.high * 100:.2f}"
