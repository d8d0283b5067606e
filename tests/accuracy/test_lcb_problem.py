"""Loading LiveCodeBench: its fields, both encodings of private tests, and what is refused."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from accuracy import lcb_problem
from accuracy.lcb_problem import Problem, Test, load_problems
from core.errors import ConfigError

PUBLIC = [{"input": "1", "output": "2", "testtype": "stdin"}]
PRIVATE = [{"input": "3", "output": "4", "testtype": "stdin"}]
EXPECTED = (Test("1", "2", False), Test("3", "4", False))


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def row(private: str, question_id: str = "abc", metadata: str = "{}") -> dict[str, str]:
    return {
        "question_id": question_id,
        "public_test_cases": json.dumps(PUBLIC),
        "private_test_cases": private,
        "metadata": metadata,
        "question_content": "more \u2028 columns",
    }


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    else:
        path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows))
    return path


@pytest.mark.parametrize("private", [json.dumps(PRIVATE), packed(json.dumps(PRIVATE))])
@pytest.mark.parametrize("name", ["test.jsonl", "test.parquet"])
def test_public_tests_then_private_ones(tmp_path: Path, name: str, private: str) -> None:
    path = write(tmp_path / name, [row("[]", f"q{i}") for i in range(4)] + [row(private)])
    problems = pickle.loads(pickle.dumps(load_problems(path)))
    assert list(problems) == ["q0", "q1", "q2", "q3", "abc"]
    assert problems["abc"] == Problem("abc", EXPECTED, None)
    assert problems.get("q3") == Problem("q3", EXPECTED[:1], None)
    assert problems.get("another") is None


def test_a_folder_of_files_and_a_function_name(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [row("[]", "a")])
    write(tmp_path / "b.parquet", [row("[]", "b", '{"func_name": "solve"}')])
    (tmp_path / "README.md").touch()
    problems = load_problems(tmp_path)
    assert {name: problems[name].func_name for name in problems} == {"a": None, "b": "solve"}


class Gadget:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("/tmp/gadget-ran",)


@pytest.mark.parametrize(
    ("private", "complaint"),
    [
        (packed(Gadget()), "mkdir"),
        (packed([1]), "are a list"),
        (packed("no json"), "not a LiveCodeBench problem"),
        (packed("[]")[:-8], "cut"),
        ("%%%", "damaged|cut"),
        ('{"input": 1}', "not a LiveCodeBench problem"),
        (base64.b64encode(b"abc").decode(), "damaged"),
    ],
)
def test_refused(tmp_path: Path, private: str, complaint: str) -> None:
    problems = load_problems(write(tmp_path / "t.jsonl", [row(private)]))
    with pytest.raises(ConfigError, match=complaint):
        problems["abc"]
    assert not Path("/tmp/gadget-ran").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lcb_problem, "MAX_TESTS_BYTES", 1000)
    problems = load_problems(write(tmp_path / "t.jsonl", [row(packed("x" * 10_000))]))
    with pytest.raises(ConfigError, match="over 1000 bytes"):
        problems["abc"]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no LiveCodeBench problems"):
        load_problems(tmp_path)
    with pytest.raises(ConfigError, match="no LiveCodeBench problems"):
        load_problems(tmp_path / "absent.jsonl")
    for name, content in {"a.jsonl": "[]\n", "b.jsonl": "{", "c.parquet": "PAR1"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match="no LiveCodeBench problems"):
            load_problems(tmp_path / name)
    with pytest.raises(ConfigError, match="occurs twice"):
        load_problems(write(tmp_path / "twice.jsonl", [row("[]"), row("[]")]))


def test_no_tests_is_no_pass(tmp_path: Path) -> None:
    empty = row("[]") | {"public_test_cases": "[]"}
    with pytest.raises(ConfigError, match="no tests"):
        load_problems(write(tmp_path / "t.jsonl", [empty]))["abc"]
