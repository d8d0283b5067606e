"""Warm-up requests: what an engine does only at first, it should not do in a measurement.

Their prompts are as long as the dataset's and made of its ids, because an id that an engine does not
know can kill it; but they begin like no prompt of the dataset, so that a prefix cache has nothing
from them. One that fails ends the run before it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
import numpy.typing as npt

from backends.base import AnswerError, Backend, check_answer
from backends.engines import Engines
from backends.pages import at_once, fetch
from core.config import Sampling
from core.errors import ConfigError, SetupError
from core.outcome import Outcome

Ids = npt.NDArray[np.int32]

ANSWER_TOKENS = 16
FIRST_BLOCK = 16  # tokens: the smallest block that an engine caches, but for SGLang's single ones
SEED = 20_240_805
TRIES = 100


@dataclass(frozen=True, slots=True)
class Warmup:
    """What was sent before the run."""

    requests: int  # to each replica
    prompt_tokens: int  # over all replicas
    seconds: float


def warm_up(
    engines: Engines, prompts: Sequence[Ids], n: int, sampling: Sampling, timeout_s: float
) -> Warmup:
    """Send `n` requests to each replica, all at once. Raises SetupError for one that fails.

    `prompts` are those of the dataset.
    """
    began = monotonic()
    sampling = replace(sampling, max_tokens=min(ANSWER_TOKENS, sampling.max_tokens))
    urls = engines.urls
    made = warmup_prompts(prompts, n, len(urls)) if n else []
    backend = engines.backend

    def send(number: int) -> None:
        url = urls[number % len(urls)]
        try:
            _request(backend, url, made[number], sampling, timeout_s)
        except (OSError, AnswerError) as error:
            raise SetupError(
                f"{url}: a warm-up request failed: {getattr(error, 'reason', error)}: "
                "mend that engine or leave it out; --warmup 0 would only hide it until the run"
            ) from None

    at_once(send, range(len(made)))
    return Warmup(n, sum(map(len, made)), monotonic() - began)


def _request(backend: Backend, url: str, prompt: Ids, sampling: Sampling, timeout_s: float) -> None:
    """One request and a look at its answer. Raises OSError or AnswerError."""
    body = backend.encode(prompt, sampling, stream=False)
    status, page = fetch(url + backend.path, timeout_s, "POST", body)
    if status != 200:
        text = page[:200].decode("utf-8", "replace")
        raise AnswerError(Outcome.HTTP_ERROR, f"HTTP {status}: {text}")
    reader = backend.reader()
    reader.feed([page])
    try:
        check_answer(reader.finish(), len(prompt), sampling.max_tokens)
    except AnswerError as error:
        if error.outcome is not Outcome.TOO_SHORT:  # a random prompt may well be answered by an end
            raise


def warmup_prompts(prompts: Sequence[Ids], rounds: int, n: int) -> list[Ids]:
    """`rounds` times `n` prompts that share no first block with any of `prompts` or each other.

    Nor, as long as some id begins none of them, the first id: SGLang caches single tokens. Those of
    even rounds are as long as the longest prompt, the others as the median one.
    """
    random = np.random.default_rng(SEED)
    ids = _ids(prompts)
    starts = np.unique([prompt[0] for prompt in prompts if len(prompt)])
    firsts = np.setdiff1d(ids, starts)
    taken = {prompt[:FIRST_BLOCK].tobytes() for prompt in prompts}
    lengths = np.sort([len(prompt) for prompt in prompts])
    found: list[Ids] = []
    for number in range(rounds * n):
        length = int(lengths[len(lengths) // 2] if number // n % 2 else lengths[-1])
        found.append(_new_prompt(random, ids, firsts if len(firsts) else ids, length, taken))
    return found


def _ids(prompts: Sequence[Ids]) -> Ids:
    """Every id that occurs."""
    seen = np.zeros(1 + max(int(prompt.max()) for prompt in prompts if len(prompt)), bool)
    for prompt in prompts:
        seen[prompt] = True
    return np.flatnonzero(seen).astype(np.int32)


def _new_prompt(
    random: np.random.Generator, ids: Ids, firsts: Ids, length: int, taken: set[bytes]
) -> Ids:
    for _ in range(TRIES):
        prompt: Ids = random.choice(ids, length).astype(np.int32)
        prompt[0] = random.choice(firsts)
        head = prompt[:FIRST_BLOCK].tobytes()
        if head not in taken:
            taken.add(head)
            return prompt
    raise ConfigError(
        f"--warmup: the dataset has {len(ids)} different ids, too few for prompts that begin like "
        "none of its own: use --warmup 0"
    )
