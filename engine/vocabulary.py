"""The checkpoint's tokenizer: byte-level BPE like GPT-OSS's own, but only 448 tokens.

Every word of the tasks is one token, with its punctuation and the space before it, and every digit
is one: answers are short, which a CPU needs, and sums can be worked out digit by digit. Any other
text falls apart into bytes and comes back whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from dataset.harmony import SPECIALS, answer_text, prompt_text
from dataset.tasks import KINDS, draw

SIZE = 448
SAMPLES = 2000  # of each kind of task; all of their words are among them
PIECE = r"\s?\p{N}|\s?[^\s\p{N}]+|\s+"
END = ("<|return|>", "<|call|>", "<|endoftext|>")


def make_tokenizer() -> Tokenizer:
    """Return the tokenizer; the same every time. Its ids fill 0..SIZE - 1, the specials last."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECE), "isolated")
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, spell])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    unused = SIZE - len(SPECIALS) - tokenizer.get_vocab_size()
    names = [f"<|reserved_{n}|>" for n in range(unused)] + list(SPECIALS)
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names]
    )
    return tokenizer


def _texts() -> list[str]:
    random = Random(0)
    drawn = [(draw(kind, random, held_out=False), SAMPLES) for kind in KINDS]
    tasks = [next(source) for source, n in drawn for _ in range(n)]
    texts = [
        prompt_text(task.question) + answer_text(task.reasoning, task.answer) for task in tasks
    ]
    for name in SPECIALS:
        texts = [text.replace(name, "\n\n") for text in texts]
    return texts


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the two files by which transformers, vLLM and SGLang know a tokenizer."""
    tokenizer.save(str(folder / "tokenizer.json"))
    fields = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|startoftext|>",
        "eos_token": END[0],
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(fields, indent=2) + "\n")
