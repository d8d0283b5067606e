"""Faults on purpose: what a client must survive, struck at a known request and a known token.

`KIND[:every=N][:after=K][:times=M][:at=T]` strikes every Nth generation request after the first K (M
of them, default all), once T of its tokens have been sent (default 2), or before the last event if
the answer is shorter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.answer import Answer
from engine.wire import event, response

KINDS = {
    "http_500": "HTTP 500 instead of an answer",
    "silent": "nothing at all, not even a head",
    "stall": "silence after T tokens",
    "close": "connection closed after T tokens",
    "reset": "connection reset (RST) after T tokens",
    "die": "the engine's process exits with 1 after T tokens",
    "malformed": "an event of broken JSON after T tokens, then the rest",
    "error_event": "the engine's error event inside HTTP 200 after T tokens",
    "empty": "no tokens, finish stop",
    "one_token": "one token, finish stop",
    "abort": "finish reason abort after T tokens",
    "out_of_context": "finish length after T tokens, fewer than asked",
    "wrong_count": "the counts say one token more than was sent",
}
ENDINGS = {"empty": "stop", "one_token": "stop", "abort": "abort", "out_of_context": "length"}
FIXED_AT = {"empty": 0, "one_token": 1}
MESSAGE = "EngineCore encountered an issue. See stack trace (above) for the root cause."
BROKEN_JSON = b'{"choices":[{"index":0,"output_ids":[1,'


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    every: int = 1
    after: int = 0
    at: int = 2
    times: int | None = None  # how many requests; None: all

    def strikes(self, number: int) -> bool:
        """Whether the request of this number (from 1) is hit."""
        round, rest = divmod(number - self.after, self.every)
        return round > 0 and rest == 0 and (self.times is None or round <= self.times)


def parse_fault(text: str) -> Fault:
    """The flag's value; raises ValueError."""
    kind, *settings = text.split(":")
    if kind not in KINDS:
        raise ValueError(f"{kind}: unknown fault; known are {', '.join(KINDS)}")
    given = {"at": FIXED_AT.get(kind, 2)}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in ("every", "after", "times", "at"):
            raise ValueError(f"{setting}: must be every=N, after=K, times=M or at=T")
        given[name] = int(value)
    if given.get("every", 1) < 1 or min(given.values()) < 0:
        raise ValueError(f"{text}: every must be at least 1, after and at at least 0")
    return Fault(kind, **given)


class FaultyAnswer(Answer):
    """An answer that its fault strikes."""

    __slots__ = ("fault", "over")

    def __init__(self, fault: Fault, *of_answer: Any) -> None:
        super().__init__(*of_answer)
        self.fault = fault
        self.over = fault.kind == "wrong_count"  # nothing is left to strike
        self.render.extra = int(self.over)

    def begin(self) -> None:
        if self.fault.kind == "http_500":
            self.close(response(500, self.dialect.engine_error(MESSAGE)), "error")
        elif self.fault.kind == "silent":
            self.ended = True
        else:
            super().begin()

    def tokens(self, ids: Sequence[int], finish: str | None = None) -> None:
        if self.ended or self.over:
            return super().tokens(ids, finish)
        room = max(self.fault.at - self.truth.n_tokens - len(self.held), 0)
        if reason := ENDINGS.get(self.fault.kind):
            if len(ids) >= room or finish:
                return self.finish(ids[:room], reason)
        elif len(ids) > room or finish:
            if ids[:room]:
                super().tokens(ids[:room])
            return self.strike(ids[room:], finish)
        return super().tokens(ids, finish)

    def strike(self, rest: Sequence[int], finish: str | None) -> None:
        kind = self.fault.kind
        if kind == "malformed":
            self.malformed(rest, finish)
        elif kind == "error_event":
            self.fail(MESSAGE)
        elif kind == "die":
            os._exit(1)
        elif kind == "stall":
            self.ended = True
        else:
            self.cut(reset=kind == "reset")

    def malformed(self, rest: Sequence[int], finish: str | None) -> None:
        """Broken JSON and then the rest as if nothing had been; a body is broken as a whole."""
        if self.asked.stream:
            self.over = True
            self.connection.write(event(BROKEN_JSON))
            self.tokens(rest, finish)
        elif finish:
            self.close(response(200, BROKEN_JSON), finish)
        else:
            self.held += rest

    def cut(self, *, reset: bool) -> None:
        """End the connection in the middle of the answer; a body lacks its last byte."""
        if not self.asked.stream:
            self.connection.write(self.closing(self.held, "length")[:-1])
        self.ended = True
        self.truth.done_ns, self.truth.finish = time.monotonic_ns(), "dropped"
        self.connection.drop(reset=reset)
