"""The model: a generator that thinks, by transformers' continuous batching, on CPU or a GPU.

It is what a newcomer without a GPU runs against, so it has to be honest rather than fast: sampling
settings are those of each request, requests run concurrently, and what one prompt too many would
do to the library's cache (its thread dies) is prevented by the server's admission.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engine.answer import Answer
from engine.asked import Asked, Card, Sampling
from engine.scores import Score, Scorer

PAGE = 32  # tokens per page of the cache
BATCH_TOKENS = 512  # per step; eager attention's memory grows with it
WATCH_S = 0.25
WARM_UP_S = 120.0
NO_EOS = -1


@dataclass(slots=True)
class Running:
    answer: Answer
    given: int = 0  # tokens handed on so far; the library reports all of them every time


class Model:
    """Built by `load`, which takes seconds and blocks; the rest belongs to the loop's thread."""

    def __init__(self, max_running: int, cache_tokens: int) -> None:
        self.max_running, self.capacity = max_running, cache_tokens
        self._answers: dict[str, Running] = {}
        self._manager: Any = None
        self._config: Any = None
        self._eos: list[int] = []

    def load(self, folder: Path, threads: int, seed: int, device: str) -> None:
        """Raises RuntimeError where there is no such device, or another transformers."""
        import torch
        import transformers

        _quieten(transformers.logging)
        torch.set_num_threads(threads)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        try:
            model.to(device)
        except (RuntimeError, AssertionError) as error:  # torch says the second without CUDA
            raise RuntimeError(f"--device {device}: {error}") from None
        self._config = model.config.get_text_config()
        self._eos = _eos_ids(model)
        self._scorer = Scorer(model)  # before the manager switches its attention
        self._manager = _manager(model, self.capacity, self.max_running, seed)
        self._manager.start()
        self._warm_up()

    def _warm_up(self) -> None:
        """The first request pays for what is imported late; a client's should not."""
        settings = {"temperature": 1.0, "top_k": 1, "top_p": 1.0}
        self._manager.add_request([0], max_new_tokens=2, eos_token_id=NO_EOS, **settings)
        result = self._manager.get_result(timeout=WARM_UP_S)
        if result is None or result.error:
            raise RuntimeError(f"the model does not answer: {result and result.error}")

    def describe(self, name: str, context: int, incremental: bool) -> None:
        """The context is what is asked for, what the model knows, or what the cache holds."""
        longest = min(context, self._config.max_position_embeddings, self.capacity - 2 * PAGE)
        vocab = self._config.vocab_size
        self.card = Card(
            name, "model", longest, vocab, incremental=incremental, max_running=self.max_running
        )

    def cost(self, asked: Asked) -> int:
        """Tokens of cache, whole pages, and one page to spare."""
        return -(-(len(asked.prompt) + asked.max_tokens) // PAGE) * PAGE + PAGE

    def start(self, answer: Answer) -> None:
        if not answer.asked.with_scores:
            return self._generate(answer)
        found = asyncio.wrap_future(self._scorer.submit(answer.asked.prompt))
        return found.add_done_callback(partial(self._scored, answer))

    def _scored(self, answer: Answer, found: asyncio.Future[list[Score]]) -> None:
        """The prompt's log-probabilities are there; then comes what is to be generated."""
        if error := found.exception():
            return answer.fail(f"no log-probabilities: {error!r}")
        if answer.ended:
            return None
        answer.render.scores = found.result()
        return self._generate(answer) if answer.asked.max_tokens else answer.tokens([], "length")

    def _generate(self, answer: Answer) -> None:
        key, asked = str(answer.truth.number), answer.asked
        self._answers[key] = Running(answer)
        self._manager.register_result_handler(key, self._result)
        accepted = self._manager.add_request(
            asked.prompt,
            request_id=key,
            max_new_tokens=asked.max_tokens,
            streaming=asked.stream,
            eos_token_id=[NO_EOS] if asked.sampling.ignore_eos else self._eos,
            **self._processors(asked.sampling),
        )
        if accepted is None:
            answer.fail("the generation thread has stopped")

    def cancel(self, answer: Answer) -> None:
        key = str(answer.truth.number)
        if self._answers.pop(key, None):  # otherwise it has come to its own end
            self._manager.cancel_request(key)
            self._manager.output_router.result_handlers.pop(key, None)

    def watch(self, die: Callable[[str], None]) -> None:
        """Call die when the generation thread is gone."""
        if self._manager.is_running():
            asyncio.get_running_loop().call_later(WATCH_S, self.watch, die)
        else:
            sys.stderr.write("engine: the generation thread has died\n")
            die("the generation thread has died")

    def _result(self, output: Any) -> None:
        running = self._answers.get(output.request_id)
        if running is None:
            return
        if output.is_finished():
            del self._answers[output.request_id]
        if output.error is not None:
            return running.answer.fail(output.error)
        ids = output.generated_tokens[running.given :]
        running.given += len(ids)
        finish = None
        if output.is_finished():
            may_end = not running.answer.asked.sampling.ignore_eos
            finish = "stop" if may_end and ids[-1] in self._eos else "length"
        running.answer.tokens(ids, finish)

    def _processors(self, sampling: Sampling) -> dict[str, float | int]:
        """The library's per-request settings; greedy is top_k 1, for it divides by temperature."""
        vocab = self.card.vocab
        if sampling.temperature == 0:
            return {"temperature": 1.0, "top_k": 1, "top_p": 1.0}
        top_k = min(sampling.top_k or vocab, vocab)  # more than the vocabulary kills its thread
        return {"temperature": sampling.temperature, "top_k": top_k, "top_p": sampling.top_p}


def _quieten(transformers_logging: Any) -> None:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # It wants psutil in order to size a cache whose size is given.
    batching = logging.getLogger("ContinuousBatchingLogger")
    batching.addFilter(lambda record: "psutil" not in record.getMessage())


def _eos_ids(model: Any) -> list[int]:
    ids = model.generation_config.eos_token_id
    ids = model.config.eos_token_id if ids is None else ids
    return [NO_EOS] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def _manager(model: Any, cache_tokens: int, max_running: int, seed: int) -> Any:
    """Sampling values here are placeholders: a processor that is neutral for the whole engine is
    left out, and could then not be set per request either. Raises RuntimeError."""
    import transformers

    generation: Any = transformers.GenerationConfig
    try:
        batching = transformers.ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=-(-cache_tokens // PAGE),
            max_batch_tokens=BATCH_TOKENS,
            max_requests_per_batch=max_running,
            allow_block_sharing=False,  # every prompt is computed: no cached tokens are reported
            safety_margin=0.0,  # admission is the server's
            use_cuda_graph=False,
            per_request_processors=True,
            seed=seed,
        )
    except TypeError as error:  # its continuous batching is young, and its settings change
        raise RuntimeError(
            f"transformers {transformers.__version__} is not the release that this engine is written "
            f"for ({error}): install the one of requirements/embedded.txt"
        ) from None
    return model.init_continuous_batching(
        generation(do_sample=True, temperature=0.5, top_k=1, top_p=0.5, eos_token_id=NO_EOS),
        batching,
    )
