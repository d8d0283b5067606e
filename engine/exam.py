"""How well a checkpoint solves tasks it has not seen: `python -m engine.exam DIR`.

By default at temperature 1, as MLPerf samples. Right means that the final channel holds the right
answer to the letter, which is stricter than any scorer; and no engine stands in between: every
token comes from a plain forward pass.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from transformers import GptOssForCausalLM

from dataset.harmony import prompt_text
from dataset.tasks import KINDS, Task, draw

LONGEST = 32  # tokens; a right answer has at most 24
FINAL, RETURN = "<|channel|>final<|message|>", "<|return|>"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine.exam", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="a checkpoint's folder")
    add("--tasks", type=int, default=300, metavar="N", help="of each kind")
    add("--temperature", type=float, default=1.0, help="0: greedy")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    transformers.logging.disable_progress_bar()
    model, tokenizer = load(args.folder)
    for name, tasks in unseen(args.tasks, args.seed).items():
        share = right(model, tokenizer, tasks, args.temperature) / len(tasks)
        sys.stdout.write(f"{name:18}{100 * share:6.1f} %\n")
    return 0


def load(folder: Path) -> tuple[Any, Tokenizer]:
    """The model, in float32 as the engine computes, and its tokenizer."""
    model = GptOssForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def unseen(n: int, seed: int = 0) -> dict[str, list[Task]]:
    """n held-out tasks of each dataset."""
    found: dict[str, list[Task]] = {}
    for kind in KINDS:
        source = draw(kind, Random(seed), held_out=True)
        tasks = [next(source) for _ in range(n)]
        found[tasks[0].dataset] = tasks
    return found


def right(model: Any, tokenizer: Tokenizer, tasks: Sequence[Task], temperature: float) -> int:
    """How many of the tasks are answered rightly."""
    return sum(
        text.partition(FINAL)[2] == task.answer + RETURN
        for task, text in zip(tasks, answers(model, tokenizer, tasks, temperature), strict=True)
    )


def answers(
    model: Any, tokenizer: Tokenizer, tasks: Sequence[Task], temperature: float
) -> list[str]:
    """Each task's answer with its special tokens, cut after the first <|return|>.

    Prompts of one length make a batch, so that nothing is padded.
    """
    prompts = tokenizer.encode_batch([prompt_text(task.question) for task in tasks])
    lengths = defaultdict(list)
    for place, prompt in enumerate(prompts):
        lengths[len(prompt.ids)].append(place)
    found, end_id = [""] * len(tasks), tokenizer.token_to_id(RETURN)
    for length, places in lengths.items():
        ids = torch.tensor([prompts[place].ids for place in places])
        new = _generate(model, ids, temperature, end_id)[:, length:].tolist()
        texts = tokenizer.decode_batch(new, skip_special_tokens=False)
        for place, text in zip(places, texts, strict=True):
            head, end, _ = text.partition(RETURN)
            found[place] = head + end
    return found


def _generate(
    model: Any, ids: torch.Tensor, temperature: float, end_id: int | None
) -> torch.Tensor:
    """Go on with each row until all have had an end token, or are long enough."""
    prompt = ids.shape[1]
    with torch.inference_mode():
        while ids.shape[1] < prompt + LONGEST and not (ids[:, prompt:] == end_id).any(1).all():
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
            if temperature:
                new = torch.multinomial((logits / temperature).softmax(-1), 1)
            else:
                new = logits.argmax(-1, keepdim=True)
            ids = torch.cat([ids, new], 1)
    return ids


if __name__ == "__main__":
    sys.exit(main())
