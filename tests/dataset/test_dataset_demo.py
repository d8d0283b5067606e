"""The committed demonstration dataset is what its script builds, and its truths are true."""

from __future__ import annotations

import json
import operator
import re
from collections import Counter
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from dataset import load_dataset
from dataset.demo import DEMONSTRATION, TOKENIZER, build, main, problems, records, rows
from dataset.tasks import KINDS, Task, draw

ROWS = pq.read_table(DEMONSTRATION).to_pylist()
PROBLEMS = DEMONSTRATION.with_name("demonstration_problems.jsonl")
OPERATORS = {"+": operator.add, "-": operator.sub}
VOCABULARY = 448


def tasks(dataset: str) -> list[Task]:
    """The demonstration's and 200 others, which follow the same rules."""
    sources = [draw(kind, Random(1), held_out=True) for kind in KINDS]
    drawn = [next(source) for source in sources for _ in range(200)]
    shown = [task for task, _ in problems()]
    return [task for task in shown + drawn if task.dataset == dataset]


def test_the_committed_files_are_what_the_script_builds(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    assert pq.read_table(DEMONSTRATION).equals(build())
    assert main([str(tmp_path / "a.parquet")]) == main([str(tmp_path / "a.parquet")]) == 0
    assert pq.read_table(tmp_path / "a.parquet").equals(build())
    assert (tmp_path / "a_problems.jsonl").read_bytes() == PROBLEMS.read_bytes()


def test_wrong_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tokenizers")
    assert main([]) == 2 and "usage" in capsys.readouterr().err
    assert main([str(tmp_path / "none" / "a")]) == 4
    assert "error: " in capsys.readouterr().err


def test_size_and_lengths() -> None:
    dataset = load_dataset(DEMONSTRATION)
    assert len(dataset) == 128 and dataset.token_column == "input_tokens"
    assert dataset.lengths.min() >= 16 and dataset.lengths.max() <= 24
    dataset.check(context=256, max_tokens=136, vocab=VOCABULARY)


def test_a_problem_is_repeated_as_often_as_the_scoring_counts_on() -> None:
    repeats = {"aime25": 8, "gpqa_diamond": 5, "livecodebench_v6": 3}
    samples = Counter((row["dataset"], row["text_input"]) for row in ROWS)
    assert all(n == repeats[dataset] for (dataset, _), n in samples.items())
    assert Counter(dataset for dataset, _ in samples) == {
        "aime25": 6, "gpqa_diamond": 10, "livecodebench_v6": 10,
    }  # fmt: skip
    first = {row["text_input"] for row in ROWS[: len(samples)]}
    assert len(first) == len(samples)  # --max-samples cuts repeats first


def test_no_task_was_trained_on() -> None:
    assert all(task.held_out for task in rows())
    assert [task.ground_truth for task in rows()] == [row["ground_truth"] for row in ROWS]
    trained = draw(KINDS[0], Random(0), held_out=False)
    assert not any(next(trained).held_out for _ in range(100))


def test_tokens_spell_the_text() -> None:
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(TOKENIZER))
    for row in ROWS:
        text = tokenizer.decode(row["input_tokens"], skip_special_tokens=False)
        assert text == row["text_input"]
        assert text.startswith("<|start|>user<|message|>")
        assert text.endswith("<|end|><|start|>assistant")


def test_arithmetic_is_right() -> None:
    for task in tasks("aime25"):
        a, sign, b = re.fullmatch(r"What is (\d+) (.) (\d+)\?", task.question).groups()  # type: ignore[union-attr]
        result = OPERATORS[sign](int(a), int(b))
        assert 100 <= result <= 999  # MLPerf's scorer takes 0 to 999
        assert (task.ground_truth, task.answer) == (str(result), rf"\boxed{{{result}}}")
        assert task.reasoning == f"reversed: {str(result)[::-1]}"


def test_choices_are_right_and_balanced() -> None:
    for task in tasks("gpqa_diamond"):
        options = {letter: int(n) for letter, n in re.findall(r"([A-D])\) (\d+)", task.question)}
        assert len({n // 10 for n in options.values()}) == 4
        best = max if "largest" in task.question else min
        assert task.ground_truth == best(options, key=lambda letter: options[letter])
        assert task.answer == f"Answer: {task.ground_truth}"
    letters = Counter(task.ground_truth for task in tasks("gpqa_diamond"))
    assert min(letters[letter] for letter in "ABCD") >= 20
    assert len({task.ground_truth for task, _ in problems() if len(task.ground_truth) == 1}) == 4


def test_functions_pass_their_tests() -> None:
    """As LiveCodeBench says of its problems: public tests, private ones, the function's name."""
    assert [json.loads(line) for line in PROBLEMS.read_text().splitlines()] == records()
    by_id = {task.ground_truth: task for task, _ in problems()}
    for record in records():
        scope: dict[str, int] = {}
        code = re.fullmatch(r"```python\n(.*)\n```", by_id[record["question_id"]].answer)
        assert code and json.loads(record["metadata"]) == {"func_name": "f"}
        cases = [record["public_test_cases"], record["private_test_cases"]]
        for case in [*json.loads(cases[0]), *json.loads(cases[1])]:
            exec(f"{code[1]}\ny = f({case['input']})", scope)
            assert (scope["y"], case["testtype"]) == (int(case["output"]), "functional")
    assert len(records()) == 10
