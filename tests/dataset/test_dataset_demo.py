"""The committed demonstration dataset is what its script builds, and its answers are right."""

from __future__ import annotations

import operator
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dataset import load_dataset
from dataset.demo import DEMONSTRATION, SPECIALS, VOCABULARY, build, main

ROWS = build().to_pylist()
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def of(name: str) -> list[dict[str, str]]:
    return [row for row in ROWS if row["dataset"] == name]


def test_the_committed_file_is_what_the_script_builds() -> None:
    assert pq.read_table(DEMONSTRATION).equals(build())
    assert DEMONSTRATION.stat().st_size < 60_000


def test_regeneration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "a")]) == main([str(tmp_path / "a")]) == 0
    assert pq.read_table(tmp_path / "a").equals(build())
    assert main([]) == 2 and "usage" in capsys.readouterr().err
    assert main([str(tmp_path / "none" / "a")]) == 4
    assert "error: " in capsys.readouterr().err


def test_size_and_lengths() -> None:
    dataset = load_dataset(DEMONSTRATION)
    assert len(dataset) == 128 and dataset.token_column == "input_tokens"
    assert dataset.lengths.min() >= 30 and dataset.lengths.max() <= 120
    dataset.check(context=256, max_tokens=136, vocab=VOCABULARY)
    assert len({row["text_input"] for row in ROWS}) == 128


def test_tokens_spell_the_text() -> None:
    special = {token: name for name, token in SPECIALS.items()}
    assert sorted(special) == list(range(256, 265))
    for row in ROWS:
        parts = [special.get(t, chr(t)) for t in row["input_tokens"]]
        assert "".join(parts) == row["text_input"]
        assert row["text_input"].startswith("<|start|>user<|message|>")
        assert row["text_input"].endswith("<|end|><|start|>assistant")


def test_arithmetic_is_right() -> None:
    assert len(of("aime25")) == 43
    for row in of("aime25"):
        a, sign, b = re.search(r"What is (\d+) (.) (\d+)\?", row["text_input"]).groups()  # type: ignore[union-attr]
        assert int(row["ground_truth"]) == OPERATORS[sign](int(a), int(b))
        assert 0 <= int(row["ground_truth"]) <= 999  # what MLPerf's scorer accepts
        assert r"\boxed{n}" in row["text_input"]


def test_choices_are_right_and_balanced() -> None:
    rows = of("gpqa_diamond")
    for row in rows:
        options = {
            letter: int(n) for letter, n in re.findall(r"([A-D])\) (\d+)", row["text_input"])
        }
        assert len(set(options.values())) == 4
        best = max if "largest" in row["text_input"] else min
        assert row["ground_truth"] == best(options, key=lambda letter: options[letter])
    letters = [row["ground_truth"] for row in rows]
    assert all(letters.count(letter) >= 5 for letter in "ABCD")


def test_functions_have_ids() -> None:
    ids = [row["ground_truth"] for row in of("livecodebench_v6")]
    assert len(set(ids)) == 42 and all(name.startswith("demo_") for name in ids)
