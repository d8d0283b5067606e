"""What the accuracy tests share: a byte-level tokenizer, logs as LoadGen writes them, references."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from accuracy.contract import Answer, Ids, Resources
from accuracy.harmony import SpecialIds, final_by_text
from accuracy.tokenizer import Tokenizer, load_tokenizer

NAMES = ("return", "constrain", "channel", "start", "end", "message", "call", "endoftext")
SPECIALS = {f"<|{name}|>": 256 + number for number, name in enumerate(NAMES)}
SPECIAL_IDS = SpecialIds(256, 257, 258, 259, 260, 261, 262, 263)
MARKERS = re.compile("|".join(map(re.escape, SPECIALS)))
NOTHING = Resources()


def encode(text: str) -> Ids:
    """Ids of a text in which every <|...|> is a special token; all else is one id per byte."""
    ids: list[int] = []
    at = 0
    for marker in MARKERS.finditer(text):
        ids += [*text[at : marker.start()].encode(), SPECIALS[marker[0]]]
        at = marker.end()
    return np.array(ids + list(text[at:].encode()), np.int32)


def plain_ids(text: str) -> Ids:
    """Ids of a text in which <|...|> is spelt with plain tokens."""
    return np.array(list(text.encode()), np.int32)


def byte_letters() -> list[str]:
    """The letter that GPT-2's byte-level vocabulary has for each byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(256 + hidden.index(byte)) if byte in hidden else chr(byte) for byte in range(256)]


def write_tokenizer(directory: Path) -> Path:
    """A Hugging Face folder with one token per byte and Harmony's special tokens above them."""
    library = pytest.importorskip("tokenizers")
    vocabulary = {letter: byte for byte, letter in enumerate(byte_letters())}
    tokenizer = library.Tokenizer(library.models.BPE(vocabulary, []))
    tokenizer.decoder = library.decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


@cache
def tokenizer_of(directory: Path) -> Tokenizer:
    return load_tokenizer(directory)


def answer(text: str) -> Answer:
    """An answer as the text rule reads it."""
    text = text.strip()
    return Answer(encode(text), text, final_by_text(text))


def harmony(final: str, analysis: str = "Let me think.") -> str:
    """A whole output of the model."""
    return (
        f"<|channel|>analysis<|message|>{analysis}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{final}<|return|>"
    )


def entry(seq_id: int, qsl_idx: int, ids: Ids) -> str:
    """A line of LoadGen's log, without its comma."""
    data = ids.astype("<i4").tobytes().hex().upper()
    return (
        f'{{ "seq_id" : {seq_id}, "qsl_idx" : {qsl_idx}, "data" : "{data}", '
        f'"token_count" : {len(ids)} }}'
    )


def write_log(path: Path, entries: Iterable[str]) -> Path:
    path.write_text("[\n" + ",\n".join(entries) + "\n]\n")
    return path


def write_reference(path: Path, rows: Sequence[tuple[str, object]]) -> Path:
    """Rows of (dataset, ground truth); rows with the same two ask the same prompt."""
    prompts = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    table = {
        "input_tokens": pa.array([[7, prompts[row]] for row in rows], pa.list_(pa.int32())),
        "dataset": [dataset for dataset, _ in rows],
        "ground_truth": [truth for _, truth in rows],
    }
    pq.write_table(pa.table(table), path)
    return path


def read_json(path: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(path.read_text())
    return loaded
