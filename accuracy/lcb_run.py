"""The verdict on a LiveCodeBench candidate: run in a sandbox, judged here.

One sandbox per candidate, in which its tests run one after the other (a program that keeps state
between them keeps it, as in LiveCodeBench). Inputs go in and outputs come back; the comparison with the
expected ones, which stay here, follows facts/mlperf.md, section 4.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal, DecimalException
from fractions import Fraction
from typing import Any

from accuracy.lcb_problem import Problem, Test
from accuracy.sandbox import Ended, Sandbox, SandboxLimits

CHILD = "accuracy.lcb_child:serve"
sys.set_int_max_str_digits(50_000)  # LiveCodeBench's runner: expected outputs hold longer numbers


@dataclass(frozen=True, slots=True)
class Limits:
    """Time per test, and what the sandbox may use. test_s: 60 s is MLPerf's (LiveCodeBench's own: 6).

    grace_s: a program that catches the alarm, or sits in C code, gets so much more per test.
    """

    test_s: float = 60.0
    grace_s: float = 5.0
    sandbox: SandboxLimits = field(default_factory=SandboxLimits)

    def total_s(self, tests: int) -> float:
        return (self.test_s + 1) * tests + 5


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """Whether all tests passed; if not, what was wrong with the first that did not."""

    passed: bool
    reason: str


def run_problem(code: str, problem: Problem, limits: Limits = Limits()) -> ProblemResult:
    """Run `code` against the problem's tests. SetupError: the sandbox, not the code, failed."""
    total_s = limits.total_s(len(problem.tests))
    bounds = replace(limits.sandbox, cpu_s=min(limits.sandbox.cpu_s, total_s))
    where = "compile"
    with Sandbox(CHILD, bounds) as sandbox:
        deadline = time.monotonic() + total_s
        try:
            _ask(sandbox, _task(code, problem, limits), limits, deadline)
            for number, test in enumerate(problem.tests, 1):
                where = f"test {number} of {len(problem.tests)}"
                answer = _ask(sandbox, test.input, limits, deadline)
                if not matches(answer, test, problem.func_name is not None):
                    return ProblemResult(False, f"{where}: wrong answer")
        except Ended as end:
            return ProblemResult(False, f"{where}: {end}")
    return ProblemResult(True, f"{len(problem.tests)} tests passed")


def _task(code: str, problem: Problem, limits: Limits) -> dict[str, object]:
    return {
        "code": code,
        "func_name": problem.func_name,
        "timeout_s": limits.test_s,
        "output_chars": limits.sandbox.answer_bytes,
    }


def _ask(sandbox: Sandbox, message: object, limits: Limits, deadline: float) -> dict[str, Any]:
    """The child's answer. Ended: there is none, or it tells of an error."""
    left_s = min(limits.test_s + limits.grace_s, deadline - time.monotonic())
    try:
        answer = json.loads(sandbox.ask(json.dumps(message).encode(), left_s))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise Ended("an answer that the harness's own code would not give")
    if "error" in answer:
        raise Ended(ascii(str(answer["error"])[:200])[1:-1])
    return answer


def matches(answer: dict[str, Any], test: Test, functional: bool) -> bool:
    """Whether an answer is the expected one. Never raises: the answer may be anything."""
    try:
        if functional:
            return bool(unplain(answer["value"]) == json.loads(test.output))
        return same_output(answer["stdout"], test.output)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        return False


def unplain(value: object) -> object:
    """The value that `lcb_child.plain` wrote, or an object that equals none."""
    if isinstance(value, list):
        return [unplain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "d" in value:
        return {key: unplain(item) for key, item in value["d"].items()}
    if "q" in value:
        return Fraction(int(value["q"][0]), int(value["q"][1]))
    return object()


def same_output(printed: str, expected: str) -> bool:
    """Line by line, stripped: equal as text, or else as decimals."""
    ours, theirs = (
        [line.strip() for line in text.strip().split("\n")] for text in (printed, expected)
    )
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs))


def _same_line(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    try:
        return list(map(Decimal, ours.split())) == list(map(Decimal, theirs.split()))
    except DecimalException:
        return False
