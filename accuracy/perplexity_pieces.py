"""What a perplexity is measured over: the text, its pieces, and the token windows of each piece.

The competition's task (lm-evaluation-harness, baberabb's branch wikitext-tokens, cb306de1) joins
the rows of WikiText-2's test split, cuts the text into pieces of 2047 Llama-2 tokens and decodes
each back to text. That tokenizer is gated; without it pieces are cut by bytes, at the size that its
pieces have. Windows are those of lm-eval's loglikelihood_rolling for a model of 2048 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy.perplexity_tokens import ids_of
from core.errors import ConfigError

PIECE_TOKENS = 2047  # Llama-2 tokens
BYTES_PER_WORD = 3.794  # of WikiText-2 per Llama-2 token; ties word_perplexity to byte_perplexity
PIECE_BYTES = 7766  # PIECE_TOKENS * BYTES_PER_WORD: WikiText-2 falls into 167 pieces either way
WINDOW = 2046  # tokens scored at once: 2048 less the generated one and the context's one


@dataclass(frozen=True, slots=True)
class Piece:
    """One document of the task."""

    text: str
    n_words: int | None  # Llama-2 tokens, BOS included; None where that tokenizer is not there

    @property
    def n_bytes(self) -> int:
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens scored by one request, given their context."""

    context: list[int]  # at least one token
    predicted: list[int]

    @property
    def prompt(self) -> list[int]:
        return self.context + self.predicted


def read_text(path: Path) -> str:
    """The rows of a WikiText file joined as the task joins them. Raises ConfigError.

    A row is a line with its end, or nothing where the line is blank, as in the dataset
    wikitext-2-raw-v1; "\\n\\n" stands between two rows.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            text = "\n\n".join(line if line.strip() else "" for line in lines)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--text {path}: not readable as UTF-8 text ({error})") from None
    if not text.strip():
        raise ConfigError(f"--text {path}: holds no text")
    return text


def pieces_by_tokens(text: str, tokenizer: Any) -> list[Piece]:
    """The task's own pieces; `tokenizer` is Llama-2's, a tokenizers.Tokenizer."""
    ids = ids_of(tokenizer, text)
    cuts = [ids[i : i + PIECE_TOKENS] for i in range(0, len(ids), PIECE_TOKENS)]
    texts = [tokenizer.decode(cut, skip_special_tokens=False) for cut in cuts]
    return [Piece(piece, 1 + len(ids_of(tokenizer, piece))) for piece in texts]


def pieces_by_bytes(text: str, limit: int = PIECE_BYTES) -> list[Piece]:
    """Pieces of at most `limit` UTF-8 bytes, each cut before its last space (no word, and where
    there is no space no character, is cut in two). Joined they are the text."""
    data, pieces, start = text.encode(), [], 0
    while start < len(data):
        end = _cut(data, start, start + limit)
        pieces.append(Piece(data[start:end].decode(), None))
        start = end
    return pieces


def _cut(data: bytes, start: int, end: int) -> int:
    if end >= len(data):
        return len(data)
    space = data.rfind(b" ", start + 1, end + 1)
    if space > 0:
        return space
    while data[end] & 0xC0 == 0x80:  # the inside of a character
        end -= 1
    return end


def rolling_windows(ids: Sequence[int], prefix: int, size: int = WINDOW) -> Iterator[Window]:
    """Every token is predicted once, at most `size` at a time. The context is one token, or as
    many as fill the window for the last one: lm-eval's get_rolling_token_windows, made disjoint."""
    for start in range(0, len(ids), size):
        end = min(start + size, len(ids))
        context = [prefix] if start == 0 else ids[end - size - 1 : start]
        yield Window(list(context), list(ids[start:end]))
