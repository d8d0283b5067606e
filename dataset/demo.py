"""The demonstration dataset: 128 short tasks of our own, so that a run needs no download.

Token ids are byte-level (0..255 are UTF-8 bytes) with Harmony's special tokens above them: a
vocabulary small enough for a model that a laptop serves. Nothing is random: `python -m dataset.demo
OUT.parquet` writes the same table every time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from core.errors import HarnessError
from dataset.convert import write_parquet

DEMONSTRATION = Path(__file__).with_name("demonstration.parquet")
ROWS = 128
VOCABULARY = 320  # 265 in use, padded to a multiple of 64 as engines like it
SPECIALS = {
    "<|startoftext|>": 256,
    "<|endoftext|>": 257,
    "<|return|>": 258,
    "<|constrain|>": 259,
    "<|channel|>": 260,
    "<|start|>": 261,
    "<|end|>": 262,
    "<|message|>": 263,
    "<|call|>": 264,
}
_SCHEMA = pa.schema(
    {
        "input_tokens": pa.list_(pa.int32()),
        "text_input": pa.string(),
        "dataset": pa.string(),
        "ground_truth": pa.string(),
    }
)


def render(question: str) -> tuple[list[int], str]:
    """Return a user's question as a Harmony prompt: its ids, and the same as text."""
    start, message, end = "<|start|>", "<|message|>", "<|end|>"
    pieces = [start, "user", message, question, end, start, "assistant"]
    return [token for piece in pieces for token in _encode(piece)], "".join(pieces)


def _encode(piece: str) -> list[int]:
    return [SPECIALS[piece]] if piece in SPECIALS else list(piece.encode())


_LEADS = ("", "Be brief. ", "Think step by step. ", "Answer in one line. ")  # lengths that vary


def arithmetic(n: int) -> tuple[str, str, str]:
    """Return (question, dataset, ground truth) of the n-th sum, difference or product."""
    a, b = 10 + 7 * n % 53, 2 + 5 * n % 9
    sign, answer = [("+", a + b), ("-", a - b), ("*", a * b)][n % 3]
    return rf"What is {a} {sign} {b}? Answer as \boxed{{n}}.", "aime25", str(answer)


def choice(n: int) -> tuple[str, str, str]:
    """Return (question, dataset, ground truth) of the n-th question with four options."""
    values = [(3 + 11 * n + 17 * k) % 60 for k in range(4)]
    word, best = [("largest", max(values)), ("smallest", min(values))][n % 2]
    options = " ".join(f"{letter}) {value}" for letter, value in zip("ABCD", values, strict=True))
    letter = "ABCD"[values.index(best)]
    return f"Which is the {word}? {options}\nReply as Answer: X.", "gpqa_diamond", letter


def function(n: int) -> tuple[str, str, str]:
    """Return (question, dataset, id) of the n-th one-line function."""
    sign, name = [("+", "add"), ("-", "sub"), ("*", "mul")][n % 3]
    question = f"Write a one-line Python function {name}_{n + 2}(x) that returns x {sign} {n + 2}."
    return question, "livecodebench_v6", f"demo_{name}_{n + 2}"


def build() -> pa.Table:
    """Return the table: 43 sums, 43 choices, 42 functions, in turn."""
    tasks = [(arithmetic, choice, function)[row % 3](row // 3) for row in range(ROWS)]
    prompts = [render(_LEADS[row // 3 % 4] + task[0]) for row, task in enumerate(tasks)]
    columns = [*zip(*prompts, strict=True), *list(zip(*tasks, strict=True))[1:]]
    return pa.table([list(column) for column in columns], schema=_SCHEMA)


def main(argv: Sequence[str]) -> int:
    """Write the table to the one path in `argv`, replacing what is there."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m dataset.demo OUT.parquet\n")
        return 2
    try:
        write_parquet(build(), Path(argv[0]), force=True)
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
