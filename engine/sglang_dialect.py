"""SGLang's dialect: POST /generate with token ids in and out, as seen in SGLang 0.5.21.

Streamed `output_ids` are all ids so far unless the server is told to stream increments. A prompt
and max_new_tokens beyond the context are an error, and an error of a streamed request comes as
HTTP 200 with one error event. (The real one dies of an id outside its vocabulary; here it is 400.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from engine.wire import TEXT, Pages, error_stream, event, json_response, response

VERSION = "0.5.21"  # the SGLang whose wire format this is
DEFAULT_MAX_TOKENS = 128
IDS = b'{"output_ids":'


class SGLang:
    name = "sglang"
    path = "/generate"

    def __init__(self, card: Card, scores: bool) -> None:
        self.card, self._scores = card, scores  # whether there are prompt log-probabilities

    def parse(self, body: bytes) -> Asked:
        """Raises Refused."""
        fields = load_object(body)
        try:
            return self._check(fields)
        except Refused as refused:
            refused.stream = bool(fields.get("stream"))
            raise

    def _check(self, fields: dict[str, Any]) -> Asked:
        sampling, card = fields.get("sampling_params") or {}, self.card
        if "max_tokens" in sampling:  # as for any unknown one
            raise Refused("Internal Server Error", 500)
        prompt = check_ids(fields.get("input_ids"), card.vocab, "input_ids")
        scored = self._scored(fields)
        least = 0 if scored else 1
        max_tokens = int(check_number(sampling, "max_new_tokens", DEFAULT_MAX_TOKENS, least))
        if len(prompt) + max_tokens > card.context:
            total = f"{len(prompt)} + {max_tokens}"
            raise Refused(f"{total} tokens exceed the maximum context length of {card.context}")
        stream, name = bool(fields.get("stream")), fields.get("rid")
        checked = check_sampling(sampling)
        return Asked(prompt, max_tokens, stream, checked, name, with_scores=scored)

    def _scored(self, fields: dict[str, Any]) -> bool:
        if not fields.get("return_logprob"):
            return False
        check_scores(self._scores, "return_logprob")
        if fields.get("logprob_start_len") != 0 or fields.get("stream"):
            raise Refused("return_logprob: only with logprob_start_len 0, and not in a stream")
        return True

    def render(self, asked: Asked, number: int) -> Generation:
        return Generation(asked, number, self.card.incremental)

    def refusal(self, refused: Refused) -> bytes:
        """A whole HTTP response."""
        if refused.status == 500:
            return response(500, refused.message.encode(), TEXT)
        if refused.stream:
            return error_stream(error(refused.message, "invalid_request_error", refused.status))
        return json_response(refused.status, {"error": {"message": refused.message}})

    def engine_error(self, message: str) -> bytes:
        """The JSON that says that the engine, not the request, is at fault."""
        return error(message, "internal_server_error", 500)

    def pages(self) -> Pages:
        card = self.card
        model = {"model_path": card.model, "is_generation": True, "weight_version": "default"}
        server = {
            "model_path": card.model,
            "context_length": card.context,
            "version": f"{VERSION}+{card.kind}",
            "stream_interval": card.stream_interval,
            "incremental_streaming_output": card.incremental,
            "disable_radix_cache": not card.prefix_cache,
            "max_running_requests": card.max_running,
            "tp_size": 1,
            "dp_size": 1,
        }
        about, resolved = json_response(200, model), json_response(200, server)
        return {
            **{("GET", path): lambda _: about for path in ("/model_info", "/get_model_info")},
            **{("GET", path): lambda _: resolved for path in ("/server_info", "/get_server_info")},
        }


def error(message: str, kind: str, code: int) -> bytes:
    value = {"message": message, "type": kind, "code": code, "retryable": False}
    return orjson.dumps({"error": value})


class Generation:
    """One /generate answer; it counts the ids that pass. What never changes is rendered once."""

    __slots__ = ("_all", "_count", "_first", "_head", "_incremental", "extra", "scores")

    def __init__(self, asked: Asked, number: int, incremental: bool) -> None:
        self._incremental, self._count = incremental, 0
        self.extra = 0  # added to completion_tokens: the fault `wrong_count`
        self.scores: list[Score] | None = None
        self._first = asked.prompt[0]
        self._all: list[int] = []
        name = orjson.dumps(asked.name or str(number))
        self._head = (
            b',"meta_info":{"id":%b,"prompt_tokens":%d,"cached_tokens":0,"weight_version":"default",'
            b'"completion_tokens":'
        ) % (name, len(asked.prompt))

    def event(self, ids: Sequence[int], finish: str | None) -> bytes:
        """One framed event; a finish makes it the last one."""
        self._count += len(ids)
        if not self._incremental:
            self._all += ids
            ids = self._all
        return event(IDS, orjson.dumps(ids), self._meta(ids, finish))

    def tail(self) -> bytes:
        """What stands between the last event and [DONE]."""
        return b""

    def whole(self, ids: Sequence[int], finish: str) -> bytes:
        """The JSON body of an answer that is not streamed."""
        self._count = len(ids)
        meta = self._meta(ids, finish)[:-2] + self._scores()
        return IDS + orjson.dumps(ids) + meta + b"}}"

    def _meta(self, ids: Sequence[int], finish: str | None) -> bytes:
        reason = orjson.dumps(self._reason(ids, finish)) if finish else b"null"
        return b'%b%d,"finish_reason":%b}}' % (self._head, self._count + self.extra, reason)

    def _scores(self) -> bytes:
        if self.scores is None:
            return b""
        pairs = [(None, self._first), *((score.logprob, score.token) for score in self.scores)]
        found = [(logprob, token, None) for logprob, token in pairs]
        return b',"input_token_logprobs":' + orjson.dumps(found)

    def _reason(self, ids: Sequence[int], finish: str) -> dict[str, object]:
        if finish == "stop":
            return {"type": "stop", "matched": ids[-1] if ids else None}
        if finish == "abort":
            return {"type": "abort", "message": "Aborted", "status_code": None, "err_type": None}
        return {"type": "length", "length": self._count}
