"""GSM8K as lm-evaluation-harness's task `gsm8k` (version 3) has it: prompts, filters, exact match.

As there, each question has three other ones before it, solved, drawn from the training split with
seed 1234. An answer is read twice: strictly, by ####, and flexibly, by its last number.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigError

SHOTS = 3
SEED = 1234
WHOLE = 1319  # questions of the test split
STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
IGNORED = (",", r"\$", r"(?s).*#### ", r"\.$")


@dataclass(frozen=True, slots=True)
class Question:
    question: str
    answer: str  # with its reasoning; the number stands after ####


def read_questions(path: Path) -> list[Question]:
    """Raises ConfigError."""
    try:
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
        found = [Question("" + row["question"], "" + row["answer"]) for row in rows]  # no numbers
    except (OSError, ValueError, LookupError, TypeError) as error:
        what = f"{path}: not GSM8K's JSON lines ({error!r})"
        raise ConfigError(f"{what}; each needs a question and an answer") from None
    return found


def prompts(questions: Sequence[Question], examples: Sequence[Question]) -> Iterator[str]:
    """Each question after three solved ones."""
    draws = random.Random(SEED)
    for question in questions:
        solved = draws.sample(examples, SHOTS) if len(examples) > SHOTS else examples
        before = "".join(f"Question: {q.question}\nAnswer: {q.answer}\n\n" for q in solved)
        yield f"{before}Question: {question.question}\nAnswer:"


def strict_match(text: str) -> str | None:
    """The first number after ####."""
    found = STRICT.search(text)
    return found[1] if found else None


def flexible_extract(text: str) -> str | None:
    """The last number, or what looks like one to lm-eval: punctuation, too."""
    found = FLEXIBLE.findall(text)
    return next(filter(None, found[-1])) if found else None


def same(found: str | None, answer: str) -> bool:
    """lm-eval's exact_match."""
    return found is not None and _bare(found.strip()) == _bare(answer)


def _bare(text: str) -> str:
    for pattern in IGNORED:
        text = re.sub(pattern, "", text)
    return text.lower()
