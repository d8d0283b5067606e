"""Where the texts of the accuracy tests come from: a file that is named, the cache, or the hub.

Nothing of them is in this project. They are public data sets (WikiText-2: CC BY-SA, GSM8K: MIT),
fetched once from the Hugging Face hub at a pinned revision, without a token, and kept as plain
text: WikiText as its wiki.test.raw, GSM8K as JSON lines of question and answer.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError, SetupError

HUB = "https://huggingface.co"
TIMEOUT_S = 60.0
PARQUET = b"PAR1"

Rows = list[dict[str, Any]]


def _wikitext(rows: Rows) -> str:
    """As in wiki.test.raw, where a blank line is one space; the data set has "" for it."""
    texts = [row["text"] for row in rows]
    return "".join(text if text.endswith("\n") else f"{text or ' '}\n" for text in texts)


def _json_lines(rows: Rows) -> str:
    pairs = [{key: row[key] for key in ("question", "answer")} for row in rows]
    return "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)


@dataclass(frozen=True, slots=True)
class Split:
    """A split of a data set: which variable names a file of it, and where the hub has it."""

    variable: str
    repository: str
    revision: str
    path: str
    kept_as: str
    plain: Callable[[Rows], str]


_GSM8K = ("openai/gsm8k", "e53f048856ff4f594e959d75785d2c2d37b678ee")
WIKITEXT = Split(
    "WIKITEXT",
    "Salesforce/wikitext",
    "b08601e04326c79dfdd32d625aee71d232d685c3",
    "wikitext-2-raw-v1/test-00000-of-00001.parquet",
    "wikitext-2-raw-v1-test.txt",
    _wikitext,
)
GSM8K_TEST = Split(
    "GSM8K_TEST", *_GSM8K, "main/test-00000-of-00001.parquet", "gsm8k-test.jsonl", _json_lines
)
GSM8K_TRAIN = Split(
    "GSM8K_TRAIN", *_GSM8K, "main/train-00000-of-00001.parquet", "gsm8k-train.jsonl", _json_lines
)


def find_wikitext(environ: Mapping[str, str]) -> Path:
    """WikiText-2's test split as UTF-8 text. Raises ConfigError, SetupError."""
    return _find(WIKITEXT, environ)


def find_gsm8k(environ: Mapping[str, str]) -> Path:
    """GSM8K's test split as JSON lines. Raises ConfigError, SetupError."""
    return _find(GSM8K_TEST, environ)


def find_gsm8k_train(environ: Mapping[str, str]) -> Path | None:
    """GSM8K's training split; none where the test split is a named file and it alone is."""
    if environ.get(GSM8K_TEST.variable) and not environ.get(GSM8K_TRAIN.variable):
        return None
    return _find(GSM8K_TRAIN, environ)


def wikitext_sha256(path: Path) -> str:
    """Of the text as WikiText's own file has it, however its blank lines are written here."""
    with path.open(encoding="utf-8") as lines:
        text = "".join(line if line.strip() else " \n" for line in lines)
    return hashlib.sha256(text.encode()).hexdigest()


def _find(split: Split, environ: Mapping[str, str]) -> Path:
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpt-oss-harness"
    if named := environ.get(split.variable):
        return _named(split, Path(named), cache)
    kept = cache / split.kept_as
    if not kept.is_file():
        _keep(kept, _plain(split, _download(split, environ.get("HF_ENDPOINT") or HUB)), split)
    return kept


def _named(split: Split, path: Path, cache: Path) -> Path:
    """The file itself, or of a parquet file its plain text, in the cache."""
    try:
        with path.open("rb") as file:
            if file.read(len(PARQUET)) != PARQUET:
                return path
        data = path.read_bytes()
        text = _plain(split, data)
    except OSError as error:
        raise ConfigError(f"{split.variable} {path}: not readable ({error.strerror})") from None
    except SetupError as error:
        raise ConfigError(f"{split.variable} {path}: {error}") from None
    kept = cache / f"{hashlib.sha256(data).hexdigest()[:16]}-{split.kept_as}"
    if not kept.is_file():
        _keep(kept, text, split)
    return kept


def _plain(split: Split, data: bytes) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return split.plain(pq.read_table(pa.BufferReader(data)).to_pylist())
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise SetupError(
            f"not a parquet file of {split.repository} ({error!r}): {_remedy(split)}"
        ) from None


def _download(split: Split, hub: str) -> bytes:
    where = f"datasets/{split.repository}/resolve/{split.revision}/{split.path}"
    url = f"{hub.rstrip('/')}/{where}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        error.close()
        what = f"HTTP {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        what = str(getattr(error, "reason", error))
    raise SetupError(f"{url}: not downloaded ({what}): {_remedy(split)}")


def _remedy(split: Split) -> str:
    form = "UTF-8 text" if split.plain is _wikitext else "JSON lines with question and answer"
    return f"put a file there ({form}, or the hub's parquet) and name it in {split.variable}"


def _keep(path: Path, text: str, split: Split) -> None:
    """Written aside and renamed, so that nobody reads half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as aside:
            made = Path(aside) / path.name
            made.write_text(text, encoding="utf-8")
            made.replace(path)
    except OSError as error:
        what = f"{path}: not written ({error.strerror})"
        raise SetupError(f"{what}: set XDG_CACHE_HOME, or {split.variable} to a file") from None
