"""Warm-up requests: what an engine does only at first, it should not do in a measurement.

A GPU engine compiles kernels when it meets a batch of a new size: vLLM 0.26 on an H200 answered its
first batches of 64 after 4.9 s and later ones after 0.57 s. So many requests go in batches that double,
and a ladder of lengths meets kernels that are compiled for each number of tokens in a step.
Their prompts are as long as the dataset's and made of its ids, because an id that an engine does not
know can kill it; but they begin like no prompt of the dataset, so that a prefix cache has nothing
from them. One that fails ends the run before it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from time import monotonic

import numpy as np
import numpy.typing as npt

from backends.base import AnswerError, Backend, check_answer
from backends.engines import Engines
from backends.pages import at_once, fetch
from core.config import LADDER_STEP, Sampling
from core.errors import ConfigError, SetupError
from core.files import raise_file_limit
from core.outcome import Outcome

Ids = npt.NDArray[np.int32]

ANSWER_TOKENS = 16
PREFILLS = 4  # prompts that an engine reads in a step, at least
CONNECTIONS = 2048  # open at once, over all replicas
SPARE_FILES = 256  # descriptors for all else
FIRST_BLOCK = 16  # tokens: the smallest block that an engine caches, but for SGLang's single ones
SEED = 20_240_805
TRIES = 100
FIRST_BATCH = 2


@dataclass(frozen=True, slots=True)
class Warmup:
    """What was sent before the run."""

    requests: int  # to each replica
    at_once: int  # the most that each replica had
    longest: int  # tokens of the ladder's last prompt; 0: there was no ladder
    prompt_tokens: int  # over all replicas
    seconds: float


def warm_up(
    engines: Engines,
    prompts: Sequence[Ids],
    n: int,
    sampling: Sampling,
    timeout_s: float,
    longest: int = 0,
) -> Warmup:
    """Send `n` requests to each replica, in batches. Raises SetupError for one that fails.

    `prompts` are those of the dataset. longest: before that, one prompt at a time of each length up to
    so many tokens, as the context allows.
    """
    began = monotonic()
    longest = min(longest, (engines.context_length or longest + 1) - 1)
    ladder = ladder_prompts(prompts, longest, len(engines.urls))
    for rung in ladder:
        _send(engines, rung, replace(sampling, max_tokens=1), timeout_s)
    made = warmup_prompts(prompts, n, len(engines.urls)) if n else []
    rest = list(made)
    for size in batches(n):
        batch, rest = rest[: size * len(engines.urls)], rest[size * len(engines.urls) :]
        _send(engines, batch, _brief(sampling, size), timeout_s)
    tokens = sum(map(len, chain(made, *ladder)))
    return Warmup(
        requests=n + len(ladder),
        at_once=max(batches(n), default=0),
        longest=max((len(rung[0]) for rung in ladder), default=0),
        prompt_tokens=tokens,
        seconds=monotonic() - began,
    )


def batches(n: int) -> list[int]:
    """How many go to a replica at once, one batch after another: 16 are 2, 2, 4 and 8."""
    found: list[int] = []
    while n > FIRST_BATCH:
        found.append(n - n // 2)
        n //= 2
    return [size for size in (n, *reversed(found)) if size]


def _brief(sampling: Sampling, size: int) -> Sampling:
    """Answers short, yet so long that the first is still being written when the last begins."""
    tokens = max(ANSWER_TOKENS, size // PREFILLS)
    return replace(sampling, max_tokens=min(tokens, sampling.max_tokens))


def _send(engines: Engines, batch: Sequence[Ids], sampling: Sampling, timeout_s: float) -> None:
    """All of a batch at once, as many to each replica; replica by replica where they are too many."""
    urls, backend = engines.urls, engines.backend

    def send(number: int) -> None:
        url = urls[number % len(urls)]
        try:
            _request(backend, url, batch[number], sampling, timeout_s)
        except (OSError, AnswerError) as error:
            raise SetupError(
                f"{url}: a warm-up request failed: {getattr(error, 'reason', error)}: "
                "mend that engine or leave it out; --warmup 0 would only hide it until the run"
            ) from None

    by_replica = sorted(range(len(batch)), key=lambda number: number % len(urls))
    at_once(send, by_replica, _connections())


def _connections() -> int:
    """How many may be open at once; this process's limit of files is raised as far as it may be."""
    most = raise_file_limit()
    return CONNECTIONS if most is None else min(CONNECTIONS, most - SPARE_FILES)


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
    lengths = np.sort([len(prompt) for prompt in prompts])
    longest, median = int(lengths[-1]), int(lengths[len(lengths) // 2])
    return _unlike(prompts, [median if i // n % 2 else longest for i in range(rounds * n)], SEED)


def ladder_prompts(prompts: Sequence[Ids], longest: int, n: int) -> list[list[Ids]]:
    """`n` prompts of each length, two in a step, up to `longest`; unlike `prompts`, as above."""
    steps = range(LADDER_STEP, longest + 1, LADDER_STEP)
    lengths = [length for step in steps for length in (step - 1, step)]
    made = _unlike(prompts, [length for length in lengths for _ in range(n)], SEED + 1)
    return [made[i : i + n] for i in range(0, len(made), n)]


def _unlike(prompts: Sequence[Ids], lengths: Sequence[int], seed: int) -> list[Ids]:
    """A prompt of each length."""
    random = np.random.default_rng(seed)
    ids = _ids(prompts)
    starts = np.unique([prompt[0] for prompt in prompts if len(prompt)])
    firsts = np.setdiff1d(ids, starts)
    taken = {prompt[:FIRST_BLOCK].tobytes() for prompt in prompts}
    heads = firsts if len(firsts) else ids
    return [_new_prompt(random, ids, heads, length, taken) for length in lengths]


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
