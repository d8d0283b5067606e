"""The engine's front: routes requests to dialects, queues them, and keeps count.

At most `max_running` answers are generated at once, as long as their cost fits the generator's
`capacity` (the model's cache); the others wait in order of arrival.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from engine.answer import Answer, Dialect, Truth
from engine.asked import Asked, Refused
from engine.connection import Connection
from engine.faults import Fault, FaultyAnswer
from engine.prefixes import PrefixCounter
from engine.vllm_dialect import metrics
from engine.wire import TEXT, Pages, json_response, response

if TYPE_CHECKING:
    from engine.clock import Clock
    from engine.model import Model

BACKLOG = 8192
GRACE_S = 0.5  # between the engine's death and the process's, so that /health can tell


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves, and misbehaves."""

    keep_alive_s: float = 5.0  # uvicorn's; 0: idle connections are never closed
    faults: Sequence[Fault] = ()
    split: int = 0  # bytes per send; 0: whole writes
    ping: bool = False
    dev_mode: bool = False  # vLLM's


class Server:
    def __init__(
        self,
        generator: Clock | Model,
        dialects: Sequence[Dialect],
        options: Options,
        stop: Callable[[int], None],
    ) -> None:
        self._generator, self.options, self._stop = generator, options, stop
        self._dialects = {dialect.path: dialect for dialect in dialects}
        self._pages = self._own_pages({dialect.name for dialect in dialects})
        for dialect in dialects:
            self._pages |= dialect.pages()
        self._waiting: OrderedDict[Answer, None] = OrderedDict()  # its first is found at once
        self._running: dict[Answer, int] = {}  # with its cost
        self._prefixes = PrefixCounter() if generator.card.prefix_cache else None
        self._spent = self._number = self._prompt_tokens = self._generated_tokens = 0
        self._ends: Counter[str | None] = Counter()
        self._healthy = True
        self.truth: list[Truth] = []

    async def listen(self, host: str, port: int) -> str:
        """Start to accept; returns the base URL."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self), host, port, backlog=BACKLOG)
        return "http://{}:{}".format(*server.sockets[0].getsockname()[:2])

    def handle(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        if method == "POST" and (dialect := self._dialects.get(path)):
            return self._generate(connection, dialect, body)
        page = self._pages.get((method, path))
        connection.write(page(body) if page else json_response(404, {"detail": "Not Found"}))
        return connection.done()

    def _generate(self, connection: Connection, dialect: Dialect, body: bytes) -> None:
        self._number += 1
        truth = Truth(self._number, dialect.path, connection.arrived_ns)
        self.truth.append(truth)
        try:
            asked = dialect.parse(body)
        except Refused as refused:
            truth.finish = "refused"
            connection.write(dialect.refusal(refused))
            return connection.done()
        truth.prompt_tokens, truth.prompt_sum = len(asked.prompt), sum(asked.prompt)
        self._prompt_tokens += len(asked.prompt)
        if self._prefixes:
            self._prefixes.take(asked.prompt)
        answer = connection.answer = self._answer(connection, dialect, asked, truth)
        self._waiting[answer] = None
        answer.begin()
        return self._admit()

    def _answer(
        self, connection: Connection, dialect: Dialect, asked: Asked, truth: Truth
    ) -> Answer:
        for fault in self.options.faults:
            if fault.strikes(truth.number):
                truth.fault = fault.kind
                return FaultyAnswer(fault, self, connection, dialect, asked, truth)
        return Answer(self, connection, dialect, asked, truth)

    def _admit(self) -> None:
        generator = self._generator
        while self._waiting and len(self._running) < generator.max_running:
            answer = next(iter(self._waiting))
            cost = generator.cost(answer.asked)
            if self._running and self._spent + cost > generator.capacity:
                return
            del self._waiting[answer]
            self._running[answer] = cost
            self._spent += cost
            generator.start(answer)

    def left(self, answer: Answer) -> None:
        """The answer is over: its place is free, and so is its connection."""
        self._forget(answer)
        answer.connection.done()

    def disconnected(self, answer: Answer) -> None:
        answer.ended = True
        answer.truth.finish = answer.truth.finish or "disconnected"
        self._forget(answer)

    def _forget(self, answer: Answer) -> None:
        self._generated_tokens += answer.truth.n_tokens
        self._ends[answer.truth.finish] += 1
        self._waiting.pop(answer, None)
        if answer in self._running:
            self._spent -= self._running.pop(answer)
            self._generator.cancel(answer)
        if self._waiting:  # not at once: an answer can end while it is being admitted
            asyncio.get_running_loop().call_soon(self._admit)

    def die(self, message: str) -> None:
        """The generator is dead: tell every client, be unhealthy for a moment, exit with 1."""
        self._healthy = False
        for answer in [*self._running, *self._waiting]:
            answer.fail(message)
        asyncio.get_running_loop().call_later(GRACE_S, self._stop, 1)

    def _own_pages(self, dialects: set[str]) -> Pages:
        pages: Pages = {
            ("GET", "/health"): lambda _: response(200 if self._healthy else 503),
            ("GET", "/truth"): lambda _: response(200, orjson.dumps(self.truth)),
            ("POST", "/truth/reset"): self._reset_truth,
        }
        if "vllm" in dialects:
            pages["GET", "/metrics"] = self._metrics
            if self.options.dev_mode:
                pages["POST", "/reset_prefix_cache"] = self._reset_cache
                pages["GET", "/server_info"] = self._vllm_config  # SGLang's wins where both are
        if "sglang" in dialects:
            pages["GET", "/v1/loads"] = self._loads
            pages["POST", "/flush_cache"] = self._flush
            pages["POST", "/abort_request"] = self._abort
        return pages

    def _reset_truth(self, _: bytes) -> bytes:
        self.truth.clear()
        return response(200)

    def _metrics(self, _: bytes) -> bytes:
        open_tokens = sum(answer.truth.n_tokens for answer in self._running)
        values = {
            "num_requests_running": len(self._running),
            "num_requests_waiting": len(self._waiting),
            "prompt_tokens_total": self._prompt_tokens,
            "generation_tokens_total": self._generated_tokens + open_tokens,
            "prefix_cache_queries_total": self._prefixes.queries if self._prefixes else 0,
            "prefix_cache_hits_total": self._prefixes.hits if self._prefixes else 0,
        }
        return metrics(self._generator.card, values, self._ends)

    def _reset_cache(self, _: bytes) -> bytes:
        """vLLM's: it says 200 whether it could or not."""
        if self._prefixes and not self._running:
            self._prefixes.forget()
        return response(200)

    def _vllm_config(self, _: bytes) -> bytes:
        card = self._generator.card
        config = {
            "model_config": {"max_model_len": card.context, "dtype": "torch.bfloat16"},
            "cache_config": {"enable_prefix_caching": card.prefix_cache},
            "scheduler_config": {
                "max_num_seqs": card.max_running,
                "stream_interval": card.stream_interval,
            },
        }
        return json_response(200, {"vllm_config": config, "vllm_env": {}, "system_env": {}})

    def _loads(self, _: bytes) -> bytes:
        running, waiting = len(self._running), len(self._waiting)
        rank = {"dp_rank": 0, "num_running_reqs": running, "num_waiting_reqs": waiting}
        return json_response(200, {"loads": [rank]})

    def _flush(self, _: bytes) -> bytes:
        if self._running or self._waiting:
            return response(400, b"Requests are pending or running.\n", TEXT)
        if self._prefixes:
            self._prefixes.forget()
        return response(200, b"Cache flushed.\n", TEXT)

    def _abort(self, body: bytes) -> bytes:
        fields = orjson.loads(body)
        for answer in [*self._running, *self._waiting]:
            if fields.get("abort_all") or answer.asked.name == (fields.get("rid") or ""):
                answer.abort()
        return response(200)
