"""The clock: a generator that keeps time instead of thinking.

Token k of an answer is due at start + ttft + k * itl, an absolute grid on CLOCK_MONOTONIC, so
lateness never adds up. Events of all streams hang in one wheel of millisecond slots (uvloop's
timers are no finer), so that one timer serves thousands of streams: a token is never early, and
up to about two milliseconds late on an idle machine.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
import time
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from engine.answer import Answer
from engine.asked import Asked, Card
from engine.scores import Score

MS = 1_000_000  # nanoseconds


def answer_ids(prompt: Sequence[int], n: int, vocab: int) -> list[int]:
    """The first n ids that the clock answers to a prompt: an arithmetic progression modulo the
    vocabulary, whose start and step come from the CRC-32 of the prompt's ids as native int32."""
    start, step = _progression(prompt, vocab)
    return [(start + step * k) % vocab for k in range(n)]


def _progression(prompt: Sequence[int], vocab: int) -> tuple[int, int]:
    crc = zlib.crc32(array("i", prompt).tobytes())
    return crc % vocab, 1 + (crc // vocab) % max(vocab - 1, 1)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast, in which pieces and how long the clock answers."""

    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    chunk: int = 1  # tokens per event, after the first token, which always comes alone
    osl: int | None = None  # tokens it would like to answer; None: as many as are asked for
    logprob: float | None = None  # what it says each prompt token was worth; None: nothing


class Stream:
    """One answer on the wheel."""

    __slots__ = ("answer", "due_ns", "finish", "first_ns", "n", "sent", "start", "step", "upto")

    def __init__(self, answer: Answer, n: int, vocab: int, first_ns: int) -> None:
        self.answer, self.n = answer, n
        self.first_ns = self.due_ns = first_ns
        self.start, self.step = _progression(answer.asked.prompt, vocab)
        self.finish = "length" if n == answer.asked.max_tokens else "stop"
        self.sent = 0
        self.upto = 1 if answer.asked.stream else n  # tokens sent once the next event is out


class Clock:
    """The wheel: slots by millisecond, a heap of their numbers, one timer for the first."""

    capacity = 0  # tokens; a cost of 0 always fits

    def __init__(self, card: Card, pace: Pace, max_running: int | None) -> None:
        self.card, self._pace = card, pace
        self.max_running = max_running or sys.maxsize
        self._ttft_ns, self._itl_ns = round(pace.ttft_ms * MS), round(pace.itl_ms * MS)
        self._slots: dict[int, list[Stream]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0

    def cost(self, asked: Asked) -> int:
        return 0

    def start(self, answer: Answer) -> None:
        asked, now_ns = answer.asked, time.monotonic_ns()
        wanted = asked.max_tokens
        if self._pace.osl is not None and not asked.sampling.ignore_eos:
            wanted = min(self._pace.osl, wanted)
        stream = Stream(answer, wanted, self.card.vocab, now_ns + self._ttft_ns)
        stream.due_ns = stream.first_ns + max(stream.upto - 1, 0) * self._itl_ns
        if asked.with_scores and self._pace.logprob is not None:
            scores = [Score(token, self._pace.logprob, rank=1) for token in asked.prompt[1:]]
            answer.render.scores = scores
        if stream.due_ns <= now_ns:
            self._step(stream)
        else:
            self._hang(stream)
        self._arm()

    def cancel(self, answer: Answer) -> None:
        """Nothing to do: the wheel passes over answers that have ended."""

    def _hang(self, stream: Stream) -> None:
        slot = -(-stream.due_ns // MS)  # rounded up: never early
        streams = self._slots.get(slot)
        if streams is None:
            self._slots[slot] = [stream]
            heapq.heappush(self._order, slot)
        else:
            streams.append(stream)

    def _arm(self) -> None:
        if not self._order or (self._timer and self._armed <= self._order[0]):
            return
        if self._timer:
            self._timer.cancel()
        self._armed = self._order[0]
        self._timer = asyncio.get_running_loop().call_at(self._armed / 1000, self._turn)

    def _turn(self) -> None:
        """One event of every stream that is due; what is due again waits for the next turn, so
        that a fast stream holds up neither the others nor new requests."""
        self._timer = None
        now = time.monotonic_ns() // MS
        due: list[Stream] = []
        while self._order and self._order[0] <= now:
            due += self._slots.pop(heapq.heappop(self._order))
        for stream in due:
            self._step(stream)
        self._arm()

    def _step(self, stream: Stream) -> None:
        answer = stream.answer
        if answer.ended:
            return
        start, step, vocab = stream.start, stream.step, self.card.vocab
        if stream.upto - stream.sent == 1:
            ids = [(start + step * stream.sent) % vocab]
        else:
            ids = [(start + step * k) % vocab for k in range(stream.sent, stream.upto)]
        if stream.upto == stream.n:
            return answer.tokens(ids, stream.finish)
        answer.tokens(ids)
        stream.sent = stream.upto
        stream.upto = min(stream.upto + self._pace.chunk, stream.n)
        stream.due_ns = stream.first_ns + (stream.upto - 1) * self._itl_ns
        return self._hang(stream)
