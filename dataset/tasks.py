"""Small tasks with one right answer, under the names of MLPerf's three accuracy datasets.

They are what the engine's tiny checkpoint is trained on and what the demonstration asks: sums and
differences for aime25, the extreme of four numbers for gpqa_diamond, a function in two steps for
livecodebench_v6. A hash of the question sets a tenth of all tasks apart: training never sees those,
the demonstration and every test use only those, so that a right answer was worked out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

HELD_OUT = 10  # one task in so many


@dataclass(frozen=True, slots=True)
class Task:
    dataset: str
    question: str
    reasoning: str  # what a right answer says in Harmony's analysis channel
    answer: str  # and in its final channel, in the form that the scorer of the dataset reads
    ground_truth: str

    @property
    def held_out(self) -> bool:
        return hashlib.sha256(self.question.encode()).digest()[0] % HELD_OUT == 0


@dataclass(frozen=True, slots=True)
class Step:
    verb: str
    sign: str
    number: int

    @property
    def words(self) -> str:
        return f"{self.verb} {self.number}"


STEPS = (("add", "+"), ("subtract", "-"), ("multiply by", "*"))
LARGEST_STEP = 99


def arithmetic(random: Random) -> Task:
    """A sum or difference of numbers of three digits that has three digits itself."""
    a = between(random, 100, 899)
    b = between(random, 100, 999 - a)
    plus, minus = (f"{a} + {b}", a + b), (f"{a + b} - {b}", a)
    terms, result = [plus, minus][between(random, 0, 1)]
    reasoning = f"reversed: {str(result)[::-1]}"  # a carry goes from right to left
    return Task("aime25", f"What is {terms}?", reasoning, rf"\boxed{{{result}}}", str(result))


def choice(random: Random) -> Task:
    """The largest or smallest of four numbers, no two of which begin with the same digit."""
    tens = sorted(range(1, 10), key=lambda _: random.random())[:4]
    values = [10 * ten + between(random, 0, 9) for ten in tens]
    word, best = [("largest", max(values)), ("smallest", min(values))][between(random, 0, 1)]
    options = " ".join(f"{letter}) {value}" for letter, value in zip("ABCD", values, strict=True))
    letter = "ABCD"[values.index(best)]
    question = f"Which is the {word}? {options}"
    return Task("gpqa_diamond", question, f"{word}: {best}", f"Answer: {letter}", letter)


def function(random: Random) -> Task:
    """A Python function of one line; its ground truth is the id of the problem that tests it."""
    steps = two_steps(random)
    first, second = steps
    code = f"x {first.sign} {first.number}"
    if second.sign == "*" and first.sign != "*":
        code = f"({code})"
    code = f"def f(x): return {code} {second.sign} {second.number}"
    question = f"Write f(x): {first.words}, then {second.words}."
    answer = f"```python\n{code}\n```"
    return Task("livecodebench_v6", question, "composed", answer, problem_id(steps))


def two_steps(random: Random) -> tuple[Step, Step]:
    def step() -> Step:
        return Step(*STEPS[between(random, 0, 2)], between(random, 2, LARGEST_STEP))

    return step(), step()


def problem_id(steps: tuple[Step, Step]) -> str:
    return "_".join(f"{step.verb.split()[0]}_{step.number}" for step in steps)


KINDS: tuple[Callable[[Random], Task], ...] = (arithmetic, choice, function)


def draw(kind: Callable[[Random], Task], random: Random, *, held_out: bool) -> Iterator[Task]:
    """Return tasks of one kind without end, on one side of the split; they may recur."""
    while True:
        task = kind(random)
        if task.held_out == held_out:
            yield task


def between(random: Random, low: int, high: int) -> int:
    """Return an integer from low to high; of Random, only random() is the same in every Python."""
    return low + int(random.random() * (high - low + 1))
