"""`python -m dataset`: convert, describe, and messages instead of tracebacks."""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset.__main__ import main

ROOT = Path(__file__).parents[2]
COLUMNS = {"dataset": ["aime25", "aime25", "gpqa"], "ground_truth": ["1", "2", "B"]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.pkl"
    table = pd.DataFrame({"tok_input": [[1, 2, 3], [4], [5, 600]], **COLUMNS})
    path.write_bytes(pickle.dumps(table))
    return path


def test_convert(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "b.parquet"
    assert main(["convert", str(source), str(target)]) == 0
    assert capsys.readouterr().out == f"{target}: 3 rows, 6 tokens\n"
    table = pq.read_table(target)
    assert table.schema.field("tok_input").type == pa.list_(pa.int32())
    assert table.to_pydict() == {"tok_input": [[1, 2, 3], [4], [5, 600]], **COLUMNS}
    assert pq.ParquetFile(target).metadata.row_group(0).column(0).compression == "ZSTD"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pkl", "b.parquet"]


def test_convert_overwrites_only_when_told(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "b.parquet"
    target.write_text("precious")
    assert main(["convert", str(source), str(target)]) == 2
    assert target.read_text() == "precious"
    assert "error: " in (err := capsys.readouterr().err) and "--force" in err
    assert main(["convert", "--force", str(source), str(target)]) == 0
    assert main(["convert", "--force", str(target), str(target)]) == 0  # onto itself
    assert pq.read_table(target).num_rows == 3


def test_convert_into_a_missing_folder(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(source), str(tmp_path / "none" / "b.parquet")]) == 4
    assert "not written (" in capsys.readouterr().err


def test_convert_onto_a_folder_leaves_nothing_behind(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.parquet").mkdir()
    assert main(["convert", "--force", str(source), str(tmp_path / "b.parquet")]) == 4
    assert "Is a directory" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pkl", "b.parquet"]


def test_full_disk_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.parquet"
    target.write_text("precious")
    done = subprocess.run(
        [sys.executable, "-m", "dataset", "convert", "--force", str(source), str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)),
    )
    assert done.returncode == 4
    assert (
        done.stderr.startswith(f"error: {target}: not written (") and done.stderr.count("\n") == 1
    )
    assert target.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pkl", "b.parquet"]


def test_describe(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(source)]) == 0
    out = capsys.readouterr().out
    for part in (
        "rows      3 (not an MLPerf count: 6396 performance, 4395 accuracy, 990 TEST07)",
        "columns   tok_input, dataset, ground_truth",
        "dataset   aime25 2, gpqa 1",
        "max id    600",
        "ISL       min 1  mean 2.0  p50 2  p90 3  p99 3  max 3",
        "1-1           1 ####",
    ):
        assert part in out
    assert len(next(line for line in out.splitlines() if "sha256" in line).split()[1]) == 64


@pytest.mark.parametrize(
    ("rows", "purpose"), [(6396, "performance"), (4395, "accuracy"), (990, "TEST07")]
)
def test_describe_knows_mlperf_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int, purpose: str
) -> None:
    pq.write_table(
        pa.table({"input_tokens": [[1] * (1 + i % 50) for i in range(rows)]}), tmp_path / "a"
    )
    assert main(["describe", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert f"rows      {rows} (what MLPerf asks for {purpose})" in out
    assert "dataset   no such column" in out
    bars = [line.split() for line in out.splitlines() if line.rstrip().endswith("#")]
    assert len(bars) == 10 and sum(int(bar[1]) for bar in bars) == rows


def test_errors_are_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dataset", "describe", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
