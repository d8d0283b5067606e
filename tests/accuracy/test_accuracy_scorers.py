"""Golden cases for every rule, written by hand; those that the facts mark RUN are marked so."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from accuracy import aime25, gpqa_diamond, livecodebench_v6
from accuracy.contract import Answer, Resources
from accuracy.lcb_problem import Problem
from accuracy.lcb_run import ProblemResult
from accuracy.registry import SCORERS, repeats, require_scorers, scorer
from accuracy.tokenizer import load_tokenizer
from core.errors import ConfigError, SetupError
from tests.accuracy.answers import (
    NOTHING,
    answer,
    encode,
    harmony,
    plain_ids,
    tokenizer_of,
    write_tokenizer,
)

TWO_FINALS = "<|channel|>final<|message|>A<|return|><|channel|>final<|message|>B<|return|>"


@pytest.mark.parametrize(
    ("text", "section"),
    [
        (harmony(" B \n"), "B"),
        ("no channel at all", None),
        (TWO_FINALS, "A"),
        (harmony("B") + "<|start|>user<|message|>C", "B"),
        ("<|channel|>final<|message|>cut off", "cut off"),
        ("<|channel|>final<|message|>one<|end|>two", "one<|end|>two"),  # only return ends it
        ("<|channel|>final \u660e<|message|>B<|return|>", "B"),
        ("<|channel|>final537<|message|>B", "B"),
        ("<|channel|>finally<|message|>B", "B"),  # any characters but "<" may follow
        ("<|channel|>final <|constrain|>json<|message|>{}", None),
        ("<|channel|> final<|message|>B", None),
        ("<|channel|>Final<|message|>B", None),
        ("<|channel|>final<|channel|>final<|message|>B", "B"),
        ("<|channel|>final<|message|>", ""),
        ("<|return|><|channel|>final<|message|>B", "B"),
    ],
)
def test_final_section(text: str, section: str | None, tmp_path: Path) -> None:
    assert answer(text).final == section
    tokenizer = tokenizer_of(write_tokenizer(tmp_path))
    assert tokenizer.read(encode(text)).final == section
    read = tokenizer.read(plain_ids(text))  # spelt with plain tokens: the official rule counts it
    assert read.final == section
    assert read.look_alike == any(part in text for part in ("<|cha", "<|mes", "<|ret"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (harmony(r"\boxed{204}"), 204),
        (harmony("I do not know", r"\boxed{17}"), 17),  # RUN: reasoning counts
        (r"\boxed{1} \boxed{2} \boxed{3}", 3),
        (r"\boxed{5} Answer: 7", 5),  # boxed goes first, wherever it stands
        (r"\boxed{ 12 }", 12),
        (r"\boxed{007}", 7),  # RUN
        (r"\boxed{\text{204}}", None),  # RUN
        (r"\boxed{1,000}", None),  # RUN
        (r"\boxed{1000} Answer: 5", None),  # out of range, nothing else is tried
        (r"\boxed{-5}", None),
        (r"\boxed{204.0} Answer: 204", 204),
        ("Answer: 204", 204),
        ("ANSWER:204", 204),
        ("Answer: 1 and Answer: 2", 2),
        ("Answer: 204.", None),  # RUN
        ("Answer: 204.5", None),
        ("**Answer:** 204", None),  # RUN
        ("**Answer: 204**", 204),
        ("Answer: 12th", None),
        ("Answer:\n\n 33", 33),
        ("Answer 204", None),
        ("204", None),
        ("", None),
        (r"\boxed{" + "9" * 5000 + "}", None),
    ],
)
def test_aime(text: str, value: int | None) -> None:
    assert aime25.extract(answer(text)) == value


@pytest.mark.parametrize(
    ("truth", "correct"),
    [
        *(("204", True), (" 204 ", True), (204, True), (204.0, True), ("204.0", False)),
        *((None, False), ("", False), (float("nan"), False), (float("inf"), False), ("205", False)),
    ],
)
def test_aime_truth(truth: object, correct: bool) -> None:
    assert aime25.score(answer(r"\boxed{0204}"), truth, NOTHING).correct is correct


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (harmony("B"), "B"),
        (harmony("**B**"), "B"),
        (harmony("**Answer: C**"), "C"),
        (harmony("**Answer:** C"), "C"),
        (harmony("(D)"), "D"),
        (harmony("b) because"), "B"),
        (harmony("The answer is B."), None),  # RUN
        (harmony(r"\boxed{B}"), None),  # RUN
        (harmony("A good answer is C"), "A"),  # RUN
        (TWO_FINALS, "A"),  # RUN
        (harmony("['C']"), "C"),
        (harmony(r"\n\nC\n"), "C"),
        (harmony("Answer C, then Answer: D"), "C"),  # the first of the section
        (harmony("My answer. D"), "D"),
        (harmony("Answer (D)"), "D"),  # parentheses: only rule 3
        (harmony("The choice is E"), None),
        (harmony("I say", "Answer: A. No, ANSWER: B."), "B"),  # rule 3: the last of the whole text
        (harmony("Answer: C", "Answer: A"), "C"),
        (harmony("So final answer= ( c )"), "C"),
        (harmony("So FINALANSWER: B"), "B"),
        (harmony("", "FINAL ANSWER: D"), "D"),
        ("thinking, no channel. Answer: A ... Answer: B", "A"),  # rule 2 on the whole text
        (harmony("Answer: Because"), None),
        (harmony("Answer: D_1"), "D"),  # no whole word for rule 2, no letter after it for rule 3
        ("", None),
    ],
)
def test_gpqa(text: str, letter: str | None) -> None:
    assert gpqa_diamond.extract(answer(text)) == letter


@pytest.mark.parametrize(
    ("truth", "correct"),
    [
        ("B", True),
        ("b", True),
        ("(B)", False),
        ("B ", False),
        ("", False),
        (None, False),
        (2, False),
    ],
)
def test_gpqa_truth(truth: object, correct: bool) -> None:
    assert gpqa_diamond.score(answer(harmony("B")), truth, NOTHING).correct is correct


def test_an_answer_that_ends_in_spaces_takes_no_cubic_time() -> None:
    """The reference's own pattern would take days for this one."""
    text = harmony("no", ("FINAL ANSWER" + " \n" * 5000 + "!") * 3)
    assert gpqa_diamond.extract(answer(text)) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (harmony("```python\nx\n```"), "x"),
        (harmony("```python\nx\n```\n```python\ny\n```"), "y"),
        (
            harmony("```python\nx\n```\n```\ny\n```"),
            "x",
        ),  # a tagged block goes before a later plain
        (harmony("```\ny\n```"), "y"),
        (harmony("```py\ny\n```"), "y"),
        (harmony("```Python\ny\n```"), "y"),
        (harmony("```cpp\ny\n```"), "cpp\ny"),
        (harmony("```python3\nx\n```"), "3\nx"),  # RUN
        (harmony("```python\nx"), None),  # never closed
        (harmony("no code", "```python\nx\n```"), "x"),
        (harmony("```\ny\n```", "```python\nx\n```"), "y"),
        (harmony("```python\nx\n```") + "```python\nz\n```", "x"),
        ("```python\nx\n```", "x"),
        (harmony("``````"), ""),
        (harmony("print(1)"), None),
        ("", None),
    ],
)
def test_code(text: str, code: str | None) -> None:
    assert livecodebench_v6.extract(answer(text)) == code


@pytest.fixture
def lcb(monkeypatch: pytest.MonkeyPatch) -> Resources:
    """LiveCodeBench with one problem, "p1", that `right` solves."""

    def run(code: str, problem: Problem) -> ProblemResult:
        return ProblemResult(code == "right", f"{problem.question_id} ran {code}")

    monkeypatch.setattr(livecodebench_v6, "run_problem", run)
    return Resources({"p1": Problem("p1", (), None)})


@pytest.mark.parametrize(
    ("text", "truth", "correct", "fault"),
    [
        ("```python\nright\n```", "p1", True, False),
        ("```python\nwrong\n```", "p1", False, False),
        ("right", "p1", False, False),
        ("``````", "p1", False, False),
        ("```python\nright\n```", None, False, False),
        ("```python\nright\n```", "p2", False, True),  # a problem that is not there is no miss
    ],
)
def test_livecodebench(
    text: str, truth: object, correct: bool, fault: bool, lcb: Resources
) -> None:
    scored = livecodebench_v6.score(answer(harmony(text)), truth, lcb)
    assert (scored.correct, scored.fault) == (correct, fault)


def test_registry() -> None:
    assert {name: repeats(name) for name in SCORERS} == {
        "aime25": 8,
        "gpqa_diamond": 5,
        "livecodebench_v6": 3,
    }
    assert repeats("GPQA_Diamond") == 5  # the reference compares in lower case
    assert repeats("aime24") == 1
    assert scorer("AIME24") is aime25.score
    assert scorer("my_gpqa") is gpqa_diamond.score
    assert scorer("livecodebench_v5") is livecodebench_v6.score
    with pytest.raises(ConfigError, match="'math500', 'mmlu'"):
        require_scorers(["aime25", "mmlu", "math500"])


def test_ids_without_a_token(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(write_tokenizer(tmp_path))
    ids = np.array([66, -1, 67, 99999, 264], np.int32)
    assert tokenizer.decode(ids) == "BC"
    assert tokenizer.unknown(ids) == 3
    assert isinstance(tokenizer.read(ids), Answer)


def test_tokenizer_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="give a folder with tokenizer"):
        load_tokenizer(tmp_path)
    file = write_tokenizer(tmp_path) / "tokenizer.json"
    file.write_text(file.read_text().replace("<|channel|>", "<|chanel|>"))
    with pytest.raises(ConfigError, match=r"has no <\|channel\|>"):
        load_tokenizer(tmp_path)
    monkeypatch.setitem(sys.modules, "openai_harmony", None)
    with pytest.raises(SetupError, match="pip install oss-harmony"):
        load_tokenizer(None)
