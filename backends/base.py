"""The seam between the harness and an engine: bytes out, token ids back."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from core.config import Sampling
from core.outcome import Finish, Outcome

DONE = b"[DONE]"
ERROR_KEY = b'"error":'


class AnswerError(Exception):
    """The answer cannot be used; carries the outcome that its query gets."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class Answer(NamedTuple):
    """One finished answer. `ids` are little-endian int32, as LoadGen's accuracy log wants them."""

    ids: bytes
    finish: Finish
    prompt_tokens: int | None  # as the engine counted them; None: it did not say
    completion_tokens: int | None

    @property
    def n_tokens(self) -> int:
        return len(self.ids) // 4


class AnswerReader(Protocol):
    """Reads one answer from the payloads of its events; a plain JSON body is a single payload."""

    ids: bytearray  # what has been read so far, little-endian int32
    n_events: int  # payloads that brought tokens
    special: bytes  # marks events that bring more than tokens; it can stand in no JSON string

    def feed(self, payloads: Sequence[bytes]) -> None:
        """Take the next payloads, in order. Raises AnswerError."""

    def skim(self, events: bytes, n: int) -> bool:
        """Take `n` whole events without `special`, with their framing; False: feed them instead.

        It costs a fifth, as nothing is parsed but ids. It is for what is regular beyond doubt, and
        whatever it could overlook is found when the engine's own count of tokens is compared.
        """

    def finish(self) -> Answer:
        """The whole answer. Raises AnswerError when it has no end."""


class Backend(Protocol):
    """One engine's dialect."""

    name: str
    path: str  # of the generation endpoint, e.g. "/generate"
    max_concurrency: (
        int  # requests in flight per replica in Offline, unless the user says otherwise
    )

    def encode(self, prompt: npt.NDArray[np.int32], sampling: Sampling, *, stream: bool) -> bytes:
        """The request body for one prompt of token ids."""

    def reader(self) -> AnswerReader: ...


def check_answer(answer: Answer, prompt_tokens: int, max_tokens: int) -> None:
    """Refuse an answer that the engine's own counts contradict or that LoadGen cannot express.

    Nothing is patched: a difference fails the query.
    """
    n = answer.n_tokens
    if answer.prompt_tokens != prompt_tokens:
        raise AnswerError(
            Outcome.COUNT_MISMATCH,
            f"sent {prompt_tokens} prompt tokens, the engine counted {answer.prompt_tokens}",
        )
    if answer.completion_tokens != n:
        raise AnswerError(
            Outcome.COUNT_MISMATCH,
            f"received {n} token ids, the engine counted {answer.completion_tokens}",
        )
    if n > max_tokens:
        raise AnswerError(Outcome.COUNT_MISMATCH, f"{n} tokens, more than the {max_tokens} allowed")
    if n == 0:
        raise AnswerError(Outcome.EMPTY, "the answer has no tokens")
    if n == 1:
        raise AnswerError(Outcome.TOO_SHORT, "the answer has one token, LoadGen needs two")
    if answer.finish is Finish.LENGTH and n < max_tokens:
        raise AnswerError(
            Outcome.TRUNCATED,
            f"cut at {n} of {max_tokens} tokens: prompt and answer exceed the engine's context",
        )


def parse_json(data: bytes) -> Any:
    """Parse JSON; AnswerError with the offending bytes otherwise."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise AnswerError(Outcome.BAD_STREAM, f"malformed JSON ({error}): {data[:120]!r}") from None


def int32_bytes(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian int32; AnswerError if one is no token id."""
    try:
        return struct.pack(f"<{len(ids)}i", *ids)  # the fastest of five ways, for 10 and 1,000 ids
    except struct.error as error:
        raise AnswerError(Outcome.BAD_STREAM, f"not token ids: {error}") from None


def joined_ids(texts: Sequence[bytes]) -> bytes | None:
    """The ids of several JSON arrays' insides as int32 bytes; None if one is empty or odd."""
    if b"" in texts:
        return None
    try:
        return int32_bytes(orjson.loads(b"[" + b",".join(texts) + b"]"))
    except (orjson.JSONDecodeError, AnswerError):
        return None


def json_ids(prompt: npt.NDArray[np.int32]) -> bytes:
    """A prompt as a JSON array, without a detour over Python integers."""
    return orjson.dumps(prompt, option=orjson.OPT_SERIALIZE_NUMPY)
