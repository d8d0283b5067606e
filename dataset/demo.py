"""The demonstration dataset: 26 small tasks of our own, so that a run needs no download.

`python -m dataset.demo OUT.parquet` writes them as MLPerf's accuracy dataset has its own, a row per
sample and a problem repeated as often as the scoring counts on, and beside it OUT_problems.jsonl:
what LiveCodeBench says of its problems, for those that are code. Both are the same every time. The
token ids are those of the engine's tiny checkpoint, which has not seen these tasks.
"""

from __future__ import annotations

import json
import operator
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from core.errors import HarnessError, SetupError
from dataset.convert import write_parquet
from dataset.harmony import prompt_text
from dataset.tasks import Task, arithmetic, choice, draw, function

DEMONSTRATION = Path(__file__).with_name("demonstration.parquet")
TOKENIZER = Path(__file__).parents[1] / "engine" / "checkpoint" / "tokenizer.json"
SEED = 25
# Each kind with its number of problems and the repeats of the official scoring: 128 rows.
PLAN = ((arithmetic, 6, 8), (choice, 10, 5), (function, 10, 3))
PUBLIC, PRIVATE = (1, -2), (0, 7, 1000)  # what the functions are called with
VERBS = {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul}
_SCHEMA = pa.schema(
    {
        "input_tokens": pa.list_(pa.int32()),
        "text_input": pa.string(),
        "dataset": pa.string(),
        "ground_truth": pa.string(),
    }
)


def problems() -> Iterator[tuple[Task, int]]:
    """Yield each task and its repeats; no task twice, none that training has seen."""
    for kind, n, repeats in PLAN:
        found: dict[str, Task] = {}
        for task in draw(kind, Random(SEED), held_out=True):
            found.setdefault(task.question, task)
            if len(found) == n:
                break
        yield from ((task, repeats) for task in found.values())


def rows() -> list[Task]:
    """Return the task of each row: all of them once, then again those with repeats left."""
    plan = list(problems())
    most = max(repeats for _, repeats in plan)
    return [task for turn in range(most) for task, repeats in plan if turn < repeats]


def build() -> pa.Table:
    """Return the table. Raises SetupError where the library `tokenizers` is missing."""
    tasks = rows()
    texts = [prompt_text(task.question) for task in tasks]
    columns = [
        [found.ids for found in _tokenizer().encode_batch(texts)],
        texts,
        [task.dataset for task in tasks],
        [task.ground_truth for task in tasks],
    ]
    return pa.table(columns, schema=_SCHEMA)


def _tokenizer() -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise SetupError(
            "the demonstration is made with `tokenizers`: run ./setup.sh --engine embedded"
        ) from None
    return Tokenizer.from_file(str(TOKENIZER))


def records() -> list[dict[str, str]]:
    """Return the problems that are code, in the fields of LiveCodeBench."""
    tasks = [task for task, _ in problems() if task.dataset == "livecodebench_v6"]
    return [record(task) for task in tasks]


def record(task: Task) -> dict[str, str]:
    return {
        "question_id": task.ground_truth,
        "question_content": task.question,
        "public_test_cases": json.dumps([case(task, x) for x in PUBLIC]),
        "private_test_cases": json.dumps([case(task, x) for x in PRIVATE]),
        "metadata": json.dumps({"func_name": "f"}),
    }


def case(task: Task, x: int) -> dict[str, str]:
    """Return the test of f(x); what is right follows from the problem's id, not from any code."""
    words, y = task.ground_truth.split("_"), x
    for verb, number in zip(words[::2], words[1::2], strict=True):
        y = VERBS[verb](y, int(number))
    return {"input": str(x), "output": str(y), "testtype": "functional"}


def main(argv: Sequence[str]) -> int:
    """Write both files by the one path in `argv`, replacing what is there."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m dataset.demo OUT.parquet\n")
        return 2
    path = Path(argv[0])
    try:
        write_parquet(build(), path, force=True)
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    lines = [json.dumps(found) + "\n" for found in records()]
    path.with_name(f"{path.stem}_problems.jsonl").write_text("".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
