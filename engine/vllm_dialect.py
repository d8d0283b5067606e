"""vLLM's dialect: POST /v1/completions with token ids in and out, as seen in vLLM 0.32.

Streamed `token_ids` are deltas. A prompt and max_tokens beyond the context are clamped in silence;
only a prompt that leaves no room is an error. Errors found before generation are HTTP 400.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import orjson

from engine.asked import (
    Asked,
    Card,
    Refused,
    check_ids,
    check_number,
    check_sampling,
    check_scores,
    load_object,
)
from engine.scores import Score
from engine.wire import Pages, event, json_response, response

VERSION = "0.32.0"  # the vLLM whose wire format this is
DEFAULT_MAX_TOKENS = 16
ERROR_TYPES = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}
MIDDLE = b',"finish_reason":null,"stop_reason":null,"prompt_token_ids":null}]}'


class VLLM:
    name = "vllm"
    path = "/v1/completions"

    def __init__(self, card: Card, scores: bool) -> None:
        self.card, self._scores = card, scores  # whether there are prompt log-probabilities

    def parse(self, body: bytes) -> Asked:
        """Raises Refused."""
        fields, card = load_object(body), self.card
        if fields.get("model") not in (None, card.model):
            raise Refused(f"The model `{fields['model']}` does not exist.", 404, "model")
        prompt = check_ids(fields.get("prompt"), card.vocab, "prompt")
        room = card.context - len(prompt)
        if room < 1:
            message = f"{len(prompt)} prompt tokens, maximum context length is {card.context}"
            raise Refused(message, param="input_tokens")
        scored = fields.get("prompt_logprobs") is not None and not fields.get("stream")
        if scored:  # in a stream vLLM ignores it
            check_number(fields, "prompt_logprobs", 0, 0, 0)
            check_scores(self._scores, "prompt_logprobs")
        return Asked(
            prompt,
            min(int(check_number(fields, "max_tokens", DEFAULT_MAX_TOKENS, 1)), room),
            bool(fields.get("stream")),
            check_sampling(fields),
            fields.get("request_id"),
            bool(fields.get("return_token_ids")),
            bool((fields.get("stream_options") or {}).get("include_usage")),
            scored,
        )

    def render(self, asked: Asked, number: int) -> Completion:
        return Completion(self.card.model, asked, number)

    def refusal(self, refused: Refused) -> bytes:
        """A whole HTTP response."""
        return json_response(refused.status, error(refused.message, refused.status, refused.param))

    def engine_error(self, message: str) -> bytes:
        """The JSON that says that the engine, not the request, is at fault."""
        return orjson.dumps(error(message, 500))

    def pages(self) -> Pages:
        name = self.card.model
        model = {"id": name, "object": "model", "root": name, "max_model_len": self.card.context}
        models = json_response(200, {"object": "list", "data": [model]})
        version = json_response(200, {"version": f"{VERSION}+{self.card.kind}"})
        return {("GET", "/v1/models"): lambda _: models, ("GET", "/version"): lambda _: version}


def error(message: str, status: int, param: str | None = None) -> dict[str, object]:
    kind = ERROR_TYPES[status]
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


class Completion:
    """One text_completion; it counts the ids that pass. What never changes is rendered once."""

    __slots__ = ("_asked", "_count", "_envelope", "_head", "extra", "scores")

    def __init__(self, model: str, asked: Asked, number: int) -> None:
        self._asked, self._count = asked, 0
        self.extra = 0  # added to the usage: the fault `wrong_count`
        self.scores: list[Score] | None = None
        name, owner = orjson.dumps(f"cmpl-{asked.name or number}"), orjson.dumps(model)
        self._envelope = (
            b'{"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":['
        ) % (name, time.time(), owner)
        self._head = self._envelope + b'{"index":0,"text":"","logprobs":null,"token_ids":'

    def event(self, ids: Sequence[int], finish: str | None) -> bytes:
        """One framed event; a finish makes it the last one with a choice."""
        end = MIDDLE if self._count and not finish else self._end(finish)
        self._count += len(ids)
        return event(self._head, self._ids(ids), end)

    def tail(self) -> bytes:
        """What stands between the last event and [DONE]."""
        return event(self._envelope, self._usage()) if self._asked.with_usage else b""

    def whole(self, ids: Sequence[int], finish: str) -> bytes:
        """The JSON body of an answer that is not streamed."""
        choice = self._head + self._ids(ids) + self._end(finish)[:-3]
        self._count = len(ids)
        return choice + self._scores() + b"}" + self._usage()

    def _scores(self) -> bytes:
        if self.scores is None:
            return b""
        found: list[object] = [None]
        for score in self.scores:
            value = {"logprob": score.logprob, "rank": score.rank, "decoded_token": None}
            found.append({str(score.token): value})
        return b',"prompt_logprobs":' + orjson.dumps(found)

    def _ids(self, ids: Sequence[int]) -> bytes:
        return orjson.dumps(ids) if self._asked.with_ids else b"null"

    def _end(self, finish: str | None) -> bytes:
        prompt = None if self._count or not self._asked.with_ids else self._asked.prompt
        end = {"finish_reason": finish, "stop_reason": None, "prompt_token_ids": prompt}
        return b",%b]}" % orjson.dumps(end)[1:]

    def _usage(self) -> bytes:
        asked, count = len(self._asked.prompt), self._count + self.extra
        usage = {"prompt_tokens": asked, "total_tokens": asked + count, "completion_tokens": count}
        return b'],"usage":%b}' % orjson.dumps(usage)


def metrics(card: Card, gauges: Mapping[str, int], ends: Counter[str | None]) -> bytes:
    """The Prometheus text of GET /metrics."""
    label = f'engine="0",model_name="{card.model}"'
    cache = f'cache_dtype="auto",enable_prefix_caching="{card.prefix_cache}",engine="0"'
    lines = [f"vllm:cache_config_info{{{cache}}} 1.0"]
    lines += [f"vllm:{name}{{{label}}} {value}.0" for name, value in gauges.items()]
    for end in ("stop", "length", "abort", "error"):
        name = f'vllm:request_success_total{{{label},finished_reason="{end}"}}'
        lines.append(f"{name} {ends[end]}.0")
    return response(200, "\n".join([*lines, ""]).encode(), "text/plain; version=0.0.4")
