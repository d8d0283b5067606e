"""GSM8K: prompts, filters and requests as lm-eval has them, and engines that fail."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from backends import create_backend
from backends.engines import Engines
from backends.info import EngineInfo
from competition.gate import GateResult, failure_text, run_gate, success_text, validation_block
from competition.gsm8k_task import (
    Question,
    flexible_extract,
    prompts,
    read_questions,
    same,
    strict_match,
)
from competition.profile import load_profile
from core.errors import ConfigError, RunError
from tests.competition.stub import serve

PROFILE = load_profile("gptoss-fp4-vllm-mi355x-2026-03")
REAL = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.jsonl"
N = 40  # questions of the test; number i has the answer i
TRAIN = [Question(f"train {i}", f"so\n#### {i}") for i in range(9)]


def write(path: Path, rows: list[Question]) -> str:
    lines = [json.dumps({"question": row.question, "answer": row.answer}) for row in rows]
    path.write_text("\n".join(lines) + "\n\n")
    return str(path)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    test = [Question(f"test {i}", f"It is <<{i}>>.\n#### {i}") for i in range(N)]
    return {
        "GSM8K_TEST": write(tmp_path / "test", test),
        "GSM8K_TRAIN": write(tmp_path / "train", TRAIN),
    }


class Stub:
    """An engine that answers text; `say` gets the number of the question."""

    def __init__(self, say: Callable[[int], object], status: int = 200) -> None:
        self.say, self.status = say, status
        self.bodies: list[dict[str, Any]] = []
        self.lock = Lock()

    def __call__(self, path: str, body: bytes) -> tuple[int, bytes]:
        assert path == "/v1/completions"
        asked = json.loads(body)
        with self.lock:
            self.bodies.append(asked)
        number = int(re.findall(r"Question: test (\d+)\nAnswer:$", asked["prompt"])[0])
        choice = {"text": self.say(number), "finish_reason": "length" if number < 2 else "stop"}
        return self.status, json.dumps({"choices": [choice]}).encode()


def engines(*urls: str, kind: str = "vllm", model: str | None = "m") -> Engines:
    infos = tuple(EngineInfo(url, kind, None, model, None) for url in urls)
    return Engines(create_backend(kind, model), (), infos)


def gate(
    stub: Stub, environ: dict[str, str], minimum: float = 0.38, kind: str = "vllm"
) -> tuple[GateResult, list[str]]:
    said: list[str] = []
    accuracy = replace(PROFILE.accuracy, minimum=minimum)
    with serve(stub) as url:
        profile = replace(PROFILE, accuracy=accuracy)
        return run_gate(profile, engines(url, kind=kind), environ, said.append), said


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_what_is_asked(environ: dict[str, str], kind: str) -> None:
    stub = Stub(lambda i: f" {i}")
    result, said = gate(stub, environ, kind=kind)
    assert len(stub.bodies) == N
    assert len({body.pop("prompt") for body in stub.bodies}) == N
    assert stub.bodies[0] == {
        "model": "m",
        "max_tokens": 256,
        "temperature": 0.0,
        "stop": ["Question:", "</s>", "<|im_end|>"],
        "seed": 1234,
        "stream": False,
    }
    assert all(body == stub.bodies[0] for body in stub.bodies)
    assert (result.metrics, result.passed) == ({"gsm8k_metric": 1.0}, True)
    assert result.details["strict_match"] == 0.0
    assert result.details["n_cut"] == 2
    tenths = [line for line in said if "answers" in line]
    assert len(tenths) == 10
    assert tenths[-1] == "gsm8k: answers: 40 of 40 (100 %)"


def test_the_examples_are_drawn_as_lm_eval_draws_them() -> None:
    """Its sampler: one random.Random(1234) for all questions, three of the split for each."""
    draws = random.Random(1234)
    expected = []
    for name in ("a", "b"):
        chosen = draws.sample(TRAIN, 3)
        solved = [f"Question: {q.question}\nAnswer: {q.answer}\n\n" for q in chosen]
        expected.append("".join(solved) + f"Question: {name}\nAnswer:")
    assert list(prompts([Question("a", ""), Question("b", "")], TRAIN)) == expected
    assert expected[0].split("Question: a")[0] != expected[1].split("Question: b")[0]


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        (" 3 + 4 = 7\n#### 7", "7", "7"),
        ("#### 7\n#### 8 and 9", "7", "9"),
        (" costs $1,234.", None, "$1,234."),
        ("#### -1,000.", "-1,000.", "-1,000."),
        ("a 5 or so", None, "5"),
        ("####7", None, "7"),
        ("none", None, None),
        ("", None, None),
        ("7 ...", None, "..."),  # lm-eval's expression takes this for a number
    ],
)
def test_the_two_filters(text: str, strict: str | None, flexible: str | None) -> None:
    assert (strict_match(text), flexible_extract(text)) == (strict, flexible)


@pytest.mark.parametrize(
    ("found", "answer", "equal"),
    [
        ("$1,234.", "so <<1>>\n#### 1,234", True),
        ("7.0", "#### 7", False),
        ("7", "#### 17", False),
        ("7.", "#### 1\n#### 7", True),
        (None, "#### None", False),
    ],
)
def test_exact_match(found: str | None, answer: str, equal: bool) -> None:
    assert same(found, answer) is equal


def test_the_gate_takes_the_flexible_figure(environ: dict[str, str]) -> None:
    """Ten are strictly right, ten more only flexibly, of 40."""
    stub = Stub(lambda i: f"#### {i}" if i < 10 else f"{i}" if i < 20 else "#### 99")
    result, _ = gate(stub, environ, minimum=0.5)
    assert result.passed
    assert (result.metrics["gsm8k_metric"], result.details["strict_match"]) == (0.5, 0.25)
    assert success_text(result) == "✓ gsm8k_metric: 0.5000 >= 0.5000"
    result, _ = gate(stub, environ, minimum=0.5001)
    assert not result.passed
    lines = failure_text(result).splitlines()
    assert lines[:2] == ["ERROR: Accuracy validation FAILED!", "gsm8k_metric: 0.5000 < 0.5001"]
    assert len(lines) == 5
    block = validation_block(replace(PROFILE), result)
    assert (block["status"], block["minimum_accepted"], block["gsm8k_tol"]) == ("FAILED", 0.38, 0)


def test_without_a_training_split(environ: dict[str, str]) -> None:
    del environ["GSM8K_TRAIN"]
    stub = Stub(str)
    result, _ = gate(stub, environ)
    assert len(stub.bodies) == result.details["n_questions"] == N - 3
    heads = {body["prompt"].rpartition("Question: ")[0] for body in stub.bodies}
    [head] = heads
    assert re.findall(r"Question: (.*)", head) == ["test 0", "test 1", "test 2"]
    assert "GSM8K_TRAIN" in result.notes[1]
    assert (result.details["whole"], result.details["comparable"]) == (True, False)


def test_a_limit_is_a_trial(environ: dict[str, str]) -> None:
    stub = Stub(str)
    result, _ = gate(stub, environ | {"GSM8K_LIMIT": "7"})
    assert (len(stub.bodies), result.passed, result.details["whole"]) == (7, True, False)
    assert "7 of 40" in result.notes[-1]
    for text in ("0", "x", "-1"):
        with pytest.raises(ConfigError, match="GSM8K_LIMIT"):
            gate(stub, environ | {"GSM8K_LIMIT": text})


def test_the_whole_test_is_comparable(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = gate(Stub(str), environ)
    assert "40 questions, not 1319" in result.notes[0]
    monkeypatch.setattr("competition.gsm8k.WHOLE", N)
    result, _ = gate(Stub(str), environ)
    assert (result.notes, result.details["comparable"]) == ((), True)


@pytest.mark.parametrize(
    ("say", "status", "shown"),
    [
        (str, 500, "HTTP 500"),
        (lambda _: None, 200, "has no text"),
    ],
)
def test_a_failed_request_is_no_score(
    environ: dict[str, str], say: Callable[[int], object], status: int, shown: str
) -> None:
    with pytest.raises(RunError, match=rf"of 40 requests failed, 0 succeeded.*{shown}"):
        gate(Stub(say, status), environ)


def test_one_failure_is_enough(environ: dict[str, str]) -> None:
    with pytest.raises(RunError, match=r"1 of 40 requests failed.*question 39"):
        gate(Stub(lambda i: None if i == 38 else str(i)), environ)


def test_after_a_failure_no_more_are_sent(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("competition.gsm8k.IN_FLIGHT", 1)
    stub = Stub(lambda i: None if i == 2 else str(i))
    with pytest.raises(RunError, match="1 of 40 requests failed, 2 succeeded"):
        gate(stub, environ)
    assert len(stub.bodies) == 3


@pytest.mark.parametrize("page", [b"{}", b"<html>", b'{"choices": [7]}', b"[]"])
def test_an_answer_of_another_kind(environ: dict[str, str], page: bytes) -> None:
    with serve(lambda *_: (200, page)) as url, pytest.raises(RunError, match="no completion"):
        run_gate(PROFILE, engines(url), environ, print)


def test_a_dead_engine(environ: dict[str, str]) -> None:
    with pytest.raises(RunError, match="Connection refused"):
        run_gate(PROFILE, engines("http://127.0.0.1:9"), environ, print)


def test_replicas_take_turns(environ: dict[str, str]) -> None:
    stubs = Stub(str), Stub(str)
    with serve(stubs[0]) as one, serve(stubs[1]) as two:
        result = run_gate(PROFILE, engines(one, two, model=None), environ, print)
    assert [len(stub.bodies) for stub in stubs] == [N // 2, N // 2]
    assert stubs[0].bodies[0]["model"] == "default"
    assert result.passed


@pytest.mark.parametrize(
    "text", ["{", '{"question": "x"}', "[1]", '{"question": "x", "answer": 5}']
)
def test_files_of_another_kind(environ: dict[str, str], text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_text(text)
    with pytest.raises(ConfigError, match="JSON lines"):
        gate(Stub(str), environ | {"GSM8K_TRAIN": str(path)})


def test_too_few_questions(environ: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path / "few", TRAIN[:2])
    with pytest.raises(ConfigError, match="2 examples and 40 questions"):
        gate(Stub(str), environ | {"GSM8K_TRAIN": path})
    with pytest.raises(ConfigError, match="0 questions"):
        gate(Stub(str), {"GSM8K_TEST": path})


@pytest.mark.skipif(not REAL.is_file(), reason="GSM8K is not part of the project")
def test_the_real_questions_answer_themselves() -> None:
    questions = read_questions(REAL)
    assert len(questions) == 1319
    for question in questions:
        assert same(strict_match(question.answer), question.answer)
        assert same(flexible_extract(question.answer), question.answer)
