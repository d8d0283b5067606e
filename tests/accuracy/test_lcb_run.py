"""LiveCodeBench's rules, the odd ones included: what passes, and why what fails does."""

from __future__ import annotations

import json

import pytest

from accuracy.lcb_child import plain
from accuracy.lcb_problem import Problem, Test
from accuracy.lcb_run import Limits, run_problem, same_output, unplain

SUM = Problem("sum", (Test("1 2\n", "3\n", False), Test("5 6\n", "11", False)), None)
PAIR = Problem("pair", (Test("[1, 2]\n3", "[2, 3]", True),), "pair")


def reason(code: str, problem: Problem) -> str:
    return run_problem(code, problem, Limits(test_s=2, grace_s=1)).reason


READ = "a, b = map(int, {})\nprint(a + b)"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (READ.format("input().split()"), "2 tests passed"),
        (READ.format("sys.stdin.readline().split()"), "2 tests passed"),
        (READ.format("sys.stdin.read().split()"), "2 tests passed"),
        (READ.format("sys.stdin.buffer.read().split()"), "2 tests passed"),
        (READ.format("__builtins__['open'](0).read().split()"), "2 tests passed"),
        (READ.format("open(0).read().split()"), "ValueError"),  # the preamble bound the real one
        ("from sys import stdin\n" + READ.format("stdin.readline().split()"), "2 tests passed"),
        ("from sys import stdin\n" + READ.format("stdin.read().split()"), "2 tests passed"),
        ("from sys import stdin\nfor _ in range(9): stdin.readline()", "StopIteration"),
        (READ.format("next(sys.stdin).split()"), "TypeError"),  # not iterable there
        (
            "def main():\n    "
            + READ.format("input().split()").replace("\n", "\n    ")
            + "\nif __name__ == '__main__':\n    main()",
            "2 tests passed",
        ),
        ("import numpy as np\nprint(np.array(input().split(), int).sum())", "2 tests passed"),
        ("import sys\nprint(sum(map(int, input().split())))\nsys.exit(3)", "2 tests passed"),
        ("print(sum(map(int, input().split())))\nexit()", "2 tests passed"),
        ("print(sum(map(int, input().split())))\nquit()", "NoneType"),
        ("print(3)", "test 2 of 2: wrong answer"),
        ("print(f'{sum(map(int, input().split()))}.00')", "2 tests passed"),
        ("print(sum(map(int, input().split())))\nprint()", "2 tests passed"),
        ("print()\nprint(sum(map(int, input().split())), 0)", "wrong answer"),
        ("class Solution: pass\nprint(sum(map(int, input().split())))", "compile: AttributeError"),
        ("import subprocess\nsubprocess.run(['ls'])", "NoneType"),
        ("import resource\nprint()", "ModuleNotFoundError"),
        ("print(sum(map(int, input().split(' '))", "compile: SyntaxError"),
        ("import os", "compile: "),  # a function without a body
        ("input(), input(), input()", "EOFError"),
        ("return print(sum(map(int, input().split())))", "2 tests passed"),
    ],
)
def test_stdin(code: str, expected: str) -> None:
    assert expected in reason(code, SUM)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("class Solution:\n def pair(self, a: List[int], b): return [*a[1:], b]", "1 tests passed"),
        ("class Solution:\n def pair(self, a, b): return tuple([*a[1:], b])", "1 tests passed"),
        ("def pair(a, b): return [2, Decimal(3)]\nfrom decimal import Decimal", "1 tests passed"),
        ("import numpy as np\ndef pair(a, b): return list(np.array([2, 3]))", "1 tests passed"),
        ("def pair(a, b): return {2, 3}", "wrong answer"),
        ("def pair(a, b): return [2, (3,)]", "wrong answer"),
        ("class Any:\n def __eq__(self, o): return True\ndef pair(a, b): return Any()", "wrong"),
        ("def pair(a, b): print(a, b)", "wrong answer"),
        ("def pair(a): return a", "TypeError"),
        ("def other(a, b): return a", "compile: AttributeError"),
        ("import sys\ndef pair(a, b): sys.exit(0)", "exit code"),
        ("def pair(a, b):\n while True: pass", "time limit"),
        (
            "def f(n): return n and 1 + f(n - 1)\ndef pair(a, b): return [2, f(9000) - 8997]",
            "1 tests",
        ),
    ],
)
def test_functional(code: str, expected: str) -> None:
    assert expected in reason(code, PAIR)


def test_state_stays_from_test_to_test() -> None:
    code = "seen = []\ndef count(x):\n seen.append(x)\n return len(seen)"
    tests = tuple(Test("0", str(number), True) for number in (1, 2, 3))
    assert reason(code, Problem("state", tests, "count")) == "3 tests passed"


def test_a_long_number() -> None:
    code = "print(10 ** 30000)"
    assert (
        reason(code, Problem("long", (Test("", "1" + "0" * 30000, False),), None))
        == "1 tests passed"
    )


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("1.50 2\n", "1.5 2.0", True),
        ("0.1", "0.10000000000000001", False),
        ("50000000000000000", "50000000000000001", False),
        (" a b \n", "a b", True),
        ("a  b", "a b", False),
        ("1e3", "1000", True),
        ("1\n\n2", "1\n2", False),
        ("nan", "NaN", False),
        ("sNaN", "1", False),
        ("1 x", "1.0 x", False),
        ("", "\n", True),
    ],
)
def test_lines(printed: str, expected: str, same: bool) -> None:
    assert same_output(printed, expected) == same


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 1.5, "x", [], [1, [2]], {}, {"a": [1]}, {"d": 1}, {1: 2}, (1,), [(1,)], {1}, 2**70,
     [b"x"], float("inf"), float("nan"), {"a": (1,)}, range(3), [True, None], "\ud800"],
)  # fmt: skip
def test_a_value_compares_as_itself(value: object) -> None:
    """Against all that JSON can hold: the child's message equals what the value equals."""
    sent = unplain(json.loads(json.dumps(plain(value))))
    texts = ["null", "true", "1", "1.5", '"x"', "[]", "[1, [2]]", "{}", '{"a": [1]}', '{"d": 1}']
    texts += ['{"1": 2}', "[1]", "[[1]]", str(2**70), '["x"]', "Infinity", "NaN", '{"a": [1]}']
    for expected in map(
        json.loads, [*texts, "[0, 1, 2]", "[true, null]", "[1, null]", '"\\ud800"']
    ):
        assert (sent == expected) == (value == expected), expected
