"""Thousands of generated outputs per dataset: the scorers agree with the rules written a second time.

Outputs are put together from the pieces that rules care about. Random numbers with a fixed seed make
them, not hypothesis, which takes ten times as long for as many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from accuracy import aime25, gpqa_diamond, livecodebench_v6
from accuracy.contract import Answer
from accuracy.harmony import final_by_ids
from accuracy.tokenizer import Tokenizer
from tests.accuracy import plain
from tests.accuracy.answers import answer, encode, plain_ids, tokenizer_of, write_tokenizer

OUTPUTS = 3000
HARMONY = (
    *("<|channel|>", "<|message|>", "<|return|>", "<|end|>", "<|start|>", "<|constrain|>"),
    *("final", "analysis", "<|channel|>final<|message|>", "<|channel|>final 537<|message|>"),
    *("<|channel|>analysis<|message|>", "<", ">", " ", "\n", "\t", "\u2003", "<|"),
)
AIME = (
    *("\\boxed{", "}", "204", "0", "007", "1000", " ", "Answer:", "answer:", "An\u017fwer:", "."),
    *(
        "\\boxed{5}",
        "\\boxed{ 17 }",
        "Answer: 12",
        "**",
        "x",
        "_",
        "-",
        "\\text{",
        "\u0664",
        "\u00b2",
    ),
)
GPQA = (
    *("A", "B", "C", "D", "b", "E", "Answer", "ANSWER", "answer", "FINAL", "final", ":", ".", "="),
    *(
        "(",
        ")",
        "**",
        "*",
        "['",
        "']",
        '["',
        '"]',
        "\\n",
        "\\'",
        "'",
        "is",
        "_",
        "1",
        "-",
        "An\u017fwer",
    ),
    *("The answer is ", "Answer: C", "FINAL ANSWER: (D)", "\u0130", "\u212a", "\u00e9", "n"),
)
CODE = (
    *("```", "```python", "```py", "```Python\n", "python", "PY\n", "\n", "print(1)", "x = 2\n"),
    *("```python\nprint(3)\n```", "```\nprint(4)\n```", "`", "py \n \n  y", "3"),
)


def outputs(pieces: tuple[str, ...], seed: int) -> Iterator[str]:
    """Half of them whole Harmony outputs, half just pieces."""
    random = Random(seed)
    for number in range(OUTPUTS):
        first, last = ("".join(some(pieces, random)) for _ in range(2))
        end = random.choice(("<|return|>", ""))
        yield (
            first
            if number % 2
            else f"<|channel|>analysis<|message|>{first}<|end|>"
            f"<|start|>assistant<|channel|>final<|message|>{last}{end}"
        )


def some(pieces: tuple[str, ...], random: Random) -> list[str]:
    """Up to 16 pieces, most of them from `pieces`."""
    return [
        random.choice(pieces if random.random() < 0.8 else HARMONY)
        for _ in range(random.randrange(16))
    ]


@pytest.mark.parametrize(
    ("pieces", "ours", "theirs"),
    [
        (AIME, aime25.extract, plain.aime),
        (GPQA, gpqa_diamond.extract, plain.gpqa),
        (CODE, livecodebench_v6.extract, plain.code),
        (CODE, lambda answer: answer.final, lambda text: plain.final_section(text.strip())),
    ],
    ids=["aime25", "gpqa_diamond", "livecodebench_v6", "final section"],
)
def test_both_readings_of_the_rules_agree(
    pieces: tuple[str, ...], ours: Callable[[Answer], object], theirs: Callable[[str], object]
) -> None:
    found = set()
    for text in outputs(pieces, seed=len(pieces)):
        assert ours(answer(text)) == theirs(text), repr(text)
        found.add(theirs(text))
    assert len(found) > 4  # the outputs do hold answers


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    return tokenizer_of(write_tokenizer(folder))


def test_ids_and_text_give_the_same_section(tokenizer: Tokenizer) -> None:
    """Special tokens, some of them only spelt: the text's rule holds, whichever way it is found."""
    random, fooled = Random(5), 0
    for _ in range(OUTPUTS):
        only_spelt = random.choice((0, 0.1))
        parts = [
            plain_ids(piece) if random.random() < only_spelt else encode(piece)
            for piece in some((*HARMONY, "answer", "\u00e9"), random)
        ]
        ids = np.concatenate([np.empty(0, np.int32), *parts])
        read = tokenizer.read(ids)
        by_ids = final_by_ids(ids, tokenizer.decode, tokenizer.special)
        assert read.final == plain.final_section(tokenizer.decode(ids).strip())
        assert read.look_alike or read.final == by_ids
        fooled += read.final != by_ids
    assert fooled  # both ways were taken
