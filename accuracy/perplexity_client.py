"""Prompt log-probabilities from a server, over token ids, several requests in flight.

vLLM gives them on /v1/completions (prompt_logprobs), SGLang on /generate (return_logprob). A sum
over fewer tokens would be a better perplexity, so every answer is checked against the ids sent, and
one failure ends the measurement. Nothing is tried again: an engine that fails is to be looked at.
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from backends.info import EngineInfo
from core.errors import ConfigError, RunError
from core.rules import VOCABULARY

TIMEOUT_S = 300.0  # lm-eval's; the first such request makes some engines compile

T = TypeVar("T")
R = TypeVar("R")


class VLLM:
    """Seen in 0.32: null, then one object per token, keyed by its id."""

    path = "/v1/completions"
    generated: Sequence[int] = (1,)  # tokens to generate meanwhile: the first figure that works

    def __init__(self, model: str | None) -> None:
        self._model = {"model": model} if model else {}

    def body(self, ids: Sequence[int], generated: int) -> dict[str, Any]:
        sampling = {"max_tokens": generated, "temperature": 0.0}
        return self._model | sampling | {"prompt": ids, "prompt_logprobs": 0, "stream": False}

    def read(self, answer: Any, ids: Sequence[int]) -> list[float]:
        """One natural logarithm per token after the first; errors as they come."""
        entries = answer["choices"][0]["prompt_logprobs"]
        _expect("log-probabilities", len(ids), len(entries))
        _expect("usage.prompt_tokens", len(ids), answer["usage"]["prompt_tokens"])
        pairs = zip(ids[1:], entries[1:], strict=True)
        return [entry[str(token)]["logprob"] for token, entry in pairs]


class SGLang:
    """Seen in 0.5.21: [log-probability, id, text] per token, the first with null."""

    path = "/generate"
    generated: Sequence[int] = (0, 1)  # some versions refuse to generate nothing

    def body(self, ids: Sequence[int], generated: int) -> dict[str, Any]:
        return {
            "input_ids": ids,
            "sampling_params": {"max_new_tokens": generated, "temperature": 0.0},
            "return_logprob": True,
            "logprob_start_len": 0,
            "stream": False,
        }

    def read(self, answer: Any, ids: Sequence[int]) -> list[float]:
        meta = answer["meta_info"]
        entries = meta["input_token_logprobs"]
        _expect("log-probabilities", len(ids), len(entries))
        _expect("meta_info.prompt_tokens", len(ids), meta["prompt_tokens"])
        _expect("the ids in the answer", list(ids), [entry[1] for entry in entries])
        return [entry[0] for entry in entries[1:]]


class Client:
    """Asks one engine; made by a first, tiny request that finds out how."""

    def __init__(self, info: EngineInfo, dialect: VLLM | SGLang, sample: Sequence[int]) -> None:
        self._url, self._dialect = info.url + dialect.path, dialect
        for self._generated in dialect.generated:
            try:
                self.logprobs(sample)
                return
            except RunError:
                if self._generated == dialect.generated[-1]:
                    raise

    def logprobs(self, ids: Sequence[int]) -> list[float]:
        """The log-probability of each token after the first, given those before it.

        Raises RunError naming what was wrong; ConfigError for ids that would kill an engine.
        """
        if max(ids) >= VOCABULARY:
            raise ConfigError(f"id {max(ids)} is beyond the vocabulary: wrong --tokenizer?")
        answer = _post(self._url, self._dialect.body(ids, self._generated))
        try:
            found = self._dialect.read(answer, ids)
            _expect("log-probabilities that are numbers", len(ids) - 1, sum(map(_is_number, found)))
        except (LookupError, TypeError, AttributeError) as error:
            what = f"its answer lacks prompt log-probabilities ({error!r})"
            raise RunError(f"{self._url}: {what}; is it an engine that gives them?") from None
        except ValueError as error:
            remedy = "the perplexity would be wrong; look at the engine and its version"
            raise RunError(f"{self._url}: {error}; {remedy}") from None
        return found


def open_client(info: EngineInfo, sample: Sequence[int]) -> Client:
    """A client for the engine that `backends.detect` found; `sample` is a first, short prompt."""
    return Client(info, SGLang() if info.kind == "sglang" else VLLM(info.model), sample)


def map_in_flight(work: Callable[[T], R], items: Sequence[T], in_flight: int) -> list[R]:
    """The results in order, `in_flight` at a time. The first error cancels what has not begun."""
    with ThreadPoolExecutor(in_flight) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _post(url: str, body: dict[str, Any]) -> Any:
    # No proxy from the environment: as in backends.detect.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    head = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), head)
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(500).decode(errors="replace")
        raise RunError(f"{url}: HTTP {error.code}: {text}") from None
    except (OSError, http.client.HTTPException) as error:
        what = f"no answer ({getattr(error, 'reason', None) or error!r})"
        raise RunError(f"{url}: {what}; look into the engine's log") from None
    except ValueError as error:
        raise RunError(f"{url}: the answer is no JSON ({error})") from None


def _expect(what: str, wanted: object, found: object) -> None:
    if wanted != found:
        shown = f"{str(found)[:80]} instead of {str(wanted)[:80]}"
        raise ValueError(f"{what}: {shown}")


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)
