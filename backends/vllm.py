"""vLLM: `/v1/completions` with token ids in and, by `return_token_ids`, token ids out.

Every streamed chunk carries the ids that are new in it; several tokens may share a chunk, so chunks
are never counted as tokens. The last chunk holds the engine's own counts (`include_usage`). The
token-only endpoint `/inference/v1/generate` would save text, but needs a server flag since vLLM 0.30.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from backends.base import (
    DONE,
    ERROR_KEY,
    Answer,
    AnswerError,
    int32_bytes,
    joined_ids,
    json_ids,
    parse_json,
)
from core.config import Sampling
from core.outcome import Finish, Outcome

PROMPT_IDS = b'"prompt_token_ids":['
# Inside a JSON string the quotes would be escaped, so these are keys.
TOKEN_IDS = b'"token_ids":['
FINISH = {"stop": Finish.STOP, "length": Finish.LENGTH}


class VLLM:
    """vLLM's OpenAI-compatible completions."""

    name = "vllm"
    path = "/v1/completions"
    max_concurrency = 1024

    def __init__(self, model: str | None = None) -> None:
        self._model = model

    def encode(self, prompt: npt.NDArray[np.int32], sampling: Sampling, *, stream: bool) -> bytes:
        # Every sampling field is sent: the model's generation_config.json would fill the gaps.
        fields: dict[str, Any] = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k if sampling.top_k > 0 else -1,
            "stream": stream,
            "return_token_ids": True,
            "skip_special_tokens": False,
        }
        if sampling.ignore_eos:
            fields["ignore_eos"] = True
        if stream:
            fields["stream_options"] = {"include_usage": True}
        if self._model is not None:
            fields["model"] = self._model
        return orjson.dumps(fields)[:-1] + b',"prompt":' + json_ids(prompt) + b"}"

    def reader(self) -> VLLMReader:
        return VLLMReader()


def without_prompt(payload: bytes) -> bytes:
    """The payload less the ids of the prompt, which vLLM sends back and nobody needs to parse.

    The searched bytes cannot stand inside a JSON string: their quotes would be escaped.
    """
    start = payload.find(PROMPT_IDS)
    if start < 0:
        return payload
    start += len(PROMPT_IDS)
    return payload[:start] + payload[payload.find(b"]", start) :]


class VLLMReader:
    """Adds up the ids of one answer's chunks."""

    __slots__ = ("_counts", "_finish", "ids", "n_events")
    special = b'"finish_reason":"'

    def __init__(self) -> None:
        self.ids = bytearray()
        self.n_events = 0
        self._finish: Finish | None = None
        self._counts: tuple[int | None, int | None] = None, None  # of prompt and answer

    def feed(self, payloads: Sequence[bytes]) -> None:
        texts = [without_prompt(payload) for payload in payloads if payload != DONE]
        ids: list[int] = []
        # One parse for all chunks costs less than one for each.
        for chunk in parse_json(b"[" + b",".join(texts) + b"]"):
            try:
                self._take(chunk, ids)
            except (TypeError, KeyError, AttributeError, IndexError) as error:
                raise AnswerError(Outcome.BAD_STREAM, f"{error!r} in {chunk!r:.120}") from None
        self.ids += int32_bytes(ids)

    def skim(self, events: bytes, n: int) -> bool:
        parts = events.split(TOKEN_IDS)
        if len(parts) != n + 1 or ERROR_KEY in events:
            return False
        del parts[0]
        ids = joined_ids([part.partition(b"]")[0] for part in parts])
        if ids is None:
            return False
        self.ids += ids
        self.n_events += n
        return True

    def _take(self, chunk: dict[str, Any], ids: list[int]) -> None:
        if "error" in chunk:
            raise AnswerError(
                Outcome.ENGINE_ERROR, str(chunk["error"].get("message", chunk["error"]))
            )
        if chunk["choices"]:
            choice = chunk["choices"][0]
            new = choice["token_ids"]
            if new:
                ids += new
                self.n_events += 1
            if choice["finish_reason"] is not None:
                self._ended(choice["finish_reason"])
        if usage := chunk.get("usage"):
            self._counts = usage.get("prompt_tokens"), usage.get("completion_tokens")

    def _ended(self, reason: str) -> None:
        if reason not in FINISH:
            raise AnswerError(Outcome.ENGINE_ERROR, f"the engine ended with {reason!r}")
        self._finish = FINISH[reason]

    def finish(self) -> Answer:
        if self._finish is None:
            raise AnswerError(Outcome.BAD_STREAM, "the answer ended without a finish reason")
        return Answer(bytes(self.ids), self._finish, *self._counts)
