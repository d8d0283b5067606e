"""SGLang: `/generate` with `input_ids`.

By default each event repeats all ids so far; with `--incremental-streaming-output` it holds the new
ones; versions between mix both. `completion_tokens` is cumulative in all of them, so the new tokens
of an event are the last (now - before) of its `output_ids`, whichever form it has.
"""

from __future__ import annotations

import re
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

# Inside a JSON string the quotes would be escaped, so these are keys.
OUTPUT_IDS_KEY = b'"output_ids":['
OUTPUT_IDS = re.compile(rb'"output_ids":\[([^\]]*)\]')
COUNT = re.compile(rb'"completion_tokens":([0-9]{1,18})')
FINISH = {"stop": Finish.STOP, "length": Finish.LENGTH}


class SGLang:
    """SGLang's native generation endpoint."""

    name = "sglang"
    path = "/generate"
    max_concurrency = 1024

    def __init__(self, model: str | None = None) -> None:
        del model  # one server serves one model and is not asked for it by name

    def encode(self, prompt: npt.NDArray[np.int32], sampling: Sampling, *, stream: bool) -> bytes:
        params: dict[str, Any] = {
            "max_new_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k if sampling.top_k > 0 else -1,
            "skip_special_tokens": False,
        }
        if sampling.ignore_eos:
            params["ignore_eos"] = True
        fields = {"sampling_params": params, "stream": stream}
        return orjson.dumps(fields)[:-1] + b',"input_ids":' + json_ids(prompt) + b"}"

    def reader(self) -> SGLangReader:
        return SGLangReader()


class SGLangReader:
    """Reads one answer whose events are cumulative, incremental or mixed."""

    __slots__ = ("_finish", "_prompt_tokens", "_seen", "ids", "n_events")
    special = b'"finish_reason":{'

    def __init__(self) -> None:
        self.ids = bytearray()
        self.n_events = 0
        self._seen = 0  # completion_tokens of the last event
        self._finish: Finish | None = None
        self._prompt_tokens: int | None = None

    def feed(self, payloads: Sequence[bytes]) -> None:
        texts = [payload for payload in payloads if payload != DONE]
        if not texts:
            return
        last = parse_json(texts[-1])
        try:
            if len(last["output_ids"]) == last["meta_info"]["completion_tokens"] >= self._seen:
                # Cumulative: the newest event holds everything, the others need no parsing, which
                # would be quadratic; that they are whole and no errors is all that is checked.
                for text in texts:
                    if text[-1:] != b"}" or ERROR_KEY in text:
                        self._take(parse_json(text))
                self.ids.clear()
                self._seen = 0
                self.n_events += len(texts) - 1
                self._take(last)
                return
        except (TypeError, KeyError):
            pass  # an error event; _take says what is wrong with it
        for text in texts[:-1]:
            self._take(parse_json(text))
        self._take(last)

    def skim(self, events: bytes, n: int) -> bool:
        last = events.rfind(OUTPUT_IDS_KEY)
        ids, now = OUTPUT_IDS.match(events, last), COUNT.search(events, last)
        # An event with an error has no ids, so that there would be fewer of them than events.
        if ids is None or now is None or events.count(OUTPUT_IDS_KEY) != n:
            return False
        if ids[1].count(b",") + 1 == int(now[1]) >= self._seen:  # the last event holds all
            return self._skimmed([ids[1]], 0, int(now[1]), n)
        return self._skimmed(OUTPUT_IDS.findall(events), self._seen, int(now[1]), n)

    def _skimmed(self, found: list[bytes], before: int, now: int, n: int) -> bool:
        """Take the ids of `n` events that follow `before` tokens, if that makes `now` of them."""
        ids = joined_ids(found)
        if ids is None or before + len(ids) // 4 != now:
            return False
        if before == 0:
            self.ids.clear()
        self.ids += ids
        self._seen = now
        self.n_events += n
        return True

    def _take(self, event: Any) -> None:
        try:
            if "error" in event:
                raise AnswerError(Outcome.ENGINE_ERROR, str(event["error"]["message"]))
            ids, info = event["output_ids"], event["meta_info"]
            now = info["completion_tokens"]
            new = now - self._seen
            if not 0 <= new <= len(ids):
                raise AnswerError(
                    Outcome.COUNT_MISMATCH,
                    f"{new} new tokens announced, {len(ids)} ids received",
                )
            self.ids += int32_bytes(ids[len(ids) - new :])
            self.n_events += new > 0
            self._seen = now
            self._prompt_tokens = info["prompt_tokens"]
            if info["finish_reason"] is not None:
                self._ended(info["finish_reason"])
        except (TypeError, KeyError, AttributeError) as error:
            raise AnswerError(Outcome.BAD_STREAM, f"{error!r} in {event!r:.120}") from None

    def _ended(self, reason: dict[str, Any]) -> None:
        if reason["type"] not in FINISH:
            raise AnswerError(
                Outcome.ENGINE_ERROR, f"{reason['type']}: {reason.get('message', 'no message')}"
            )
        self._finish = FINISH[reason["type"]]

    def finish(self) -> Answer:
        if self._finish is None:
            raise AnswerError(Outcome.BAD_STREAM, "the answer ended without a finish reason")
        return Answer(bytes(self.ids), self._finish, self._prompt_tokens, self._seen)
