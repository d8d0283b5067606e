"""The nouns of one request, the same for both dialects: who answers, what is asked, why not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Card:
    """What the engine says of itself."""

    model: str
    kind: str  # "clock" or "model"
    context: int  # tokens, prompt and answer together
    vocab: int
    stream_interval: int = 1
    incremental: bool = False  # SGLang: stream deltas instead of all ids so far
    max_running: int | None = None  # answers at once; None: no limit
    prefix_cache: bool = False  # only counts: the answers come no faster


@dataclass(frozen=True, slots=True)
class Sampling:
    temperature: float  # 0: greedy
    top_k: int  # 0: off
    top_p: float
    ignore_eos: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One generation request that has passed its dialect's checks."""

    prompt: list[int]
    max_tokens: int
    stream: bool
    sampling: Sampling
    name: str | None = None  # the client's own id for the request
    with_ids: bool = True  # vLLM: return_token_ids
    with_usage: bool = True  # vLLM: stream_options.include_usage
    with_scores: bool = False  # log-probabilities of the prompt


class Refused(Exception):
    """A request that is answered with an error before any generation."""

    def __init__(self, message: str, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.param = message, status, param
        self.stream = False


def check_scores(there: bool, param: str) -> None:
    """Refuse prompt log-probabilities where there are none."""
    if not there:
        what = "the clock keeps time and has no model: no prompt log-probabilities"
        raise Refused(f"{what}; start `python -m engine model`", param=param)


def load_object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"JSON decode error: {error}") from None
    if not isinstance(value, dict):
        raise Refused("the body must be a JSON object")
    return value


def check_ids(ids: object, vocab: int, param: str) -> list[int]:
    """A flat list of ids of the vocabulary; cheap, for it sees every prompt."""
    if not isinstance(ids, list) or set(map(type, ids)) != {int}:
        raise Refused("must be a flat list of at least one token id", param=param)
    low, high = min(ids), max(ids)
    if low < 0 or high >= vocab:
        raise Refused(f"Token id {low if low < 0 else high} is out of vocabulary", param=param)
    return ids


def check_number(
    fields: Mapping[str, Any],
    key: str,
    default: float,
    low: float,
    high: float = math.inf,
    kinds: tuple[type, ...] = (int,),
) -> float:
    """The number under key; both engines take null for the default."""
    value = fields.get(key)
    if value is None:
        return default
    if type(value) not in kinds or not low <= value <= high:
        raise Refused(f"{key} must be a number from {low} to {high}, got {value!r}", param=key)
    return float(value)


def check_sampling(fields: Mapping[str, Any]) -> Sampling:
    """Both engines use the same names; what is not given is neutral."""
    return Sampling(
        temperature=check_number(fields, "temperature", 1.0, 0.0, kinds=(int, float)),
        top_k=max(int(check_number(fields, "top_k", 0, -1)), 0),
        top_p=check_number(fields, "top_p", 1.0, 1e-6, 1.0, kinds=(int, float)),
        ignore_eos=bool(fields.get("ignore_eos")),
    )
