"""Warm-up requests: unlike the measured ones, really answered, and an end before a bad run."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import pytest

from backends import warmup
from backends.engines import Engines, probe
from backends.warmup import (
    FIRST_BLOCK,
    Ids,
    batches,
    ladder_prompts,
    warm_up,
    warmup_prompts,
)
from core.config import Sampling
from core.errors import ConfigError, SetupError
from tests.harness import emulator

SAMPLING = Sampling(max_tokens=100)


def dataset(n: int = 50, start: int | None = 7, vocab: int = 900) -> list[Ids]:
    """Prompts of 20 to 39 ids, all with the same first one as Harmony's have."""
    random = np.random.default_rng(1)
    prompts = [random.integers(1, vocab, 20 + i % 20).astype(np.int32) for i in range(n)]
    if start is not None:
        for prompt in prompts:
            prompt[0] = start
    return prompts


def test_prompts_are_of_the_datasets_ids_and_lengths_but_begin_otherwise() -> None:
    prompts = dataset()
    made = warmup_prompts(prompts, 3, 4)
    assert [len(prompt) for prompt in made] == [39] * 4 + [28] * 4 + [39] * 4
    known = set(np.concatenate(prompts).tolist())
    assert all(set(prompt.tolist()) <= known for prompt in made)
    assert all(prompt[0] != 7 and prompt.dtype == np.int32 for prompt in made)
    heads = {prompt[:FIRST_BLOCK].tobytes() for prompt in made}
    assert len(heads) == len(made)
    again = warmup_prompts(prompts, 3, 4)
    assert [prompt.tolist() for prompt in made] == [prompt.tolist() for prompt in again]


def test_where_every_id_begins_some_prompt_the_first_block_still_differs() -> None:
    prompts = [np.array([first, *range(30)], np.int32) for first in range(30)]
    heads = {prompt[:FIRST_BLOCK].tobytes() for prompt in prompts}
    made = warmup_prompts(prompts, 2, 5)
    assert len(made) == 10
    assert not any(prompt[:FIRST_BLOCK].tobytes() in heads for prompt in made)


def test_few_ids_are_enough_as_long_as_beginnings_are_left() -> None:
    prompts = [np.array(ids, np.int32) for ids in ([0, 0, 0, 0], [0, 1, 1, 1])]
    made = warmup_prompts(prompts, 2, 4)
    assert all(prompt[0] == 1 for prompt in made)
    assert len({prompt.tobytes() for prompt in made}) == 8  # all that there are
    with pytest.raises(ConfigError, match="2 different ids"):
        warmup_prompts(prompts, 3, 3)


def test_a_dataset_without_variety_is_refused_not_repeated() -> None:
    with pytest.raises(ConfigError, match="--warmup 0"):
        warmup_prompts([np.zeros(20, np.int32)], 1, 1)


def engines_of(urls: Sequence[str]) -> Engines:
    return probe(urls, "auto")


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_every_replica_gets_its_requests(dialect: str) -> None:
    flags = ("--dialect", dialect, "--vocab", "900")
    with emulator(*flags) as one, emulator(*flags) as two:
        done = warm_up(engines_of([one.url, two.url]), dataset(), 3, SAMPLING, 10)
        truths = [one.truth(), two.truth()]
    assert [len(truth) for truth in truths] == [3, 3]
    assert {entry["finish"] for truth in truths for entry in truth} == {"length"}
    assert {entry["n_tokens"] for truth in truths for entry in truth} == {16}
    assert sorted(entry["prompt_tokens"] for entry in truths[0]) == [28, 39, 39]
    assert (done.requests, done.prompt_tokens) == (3, 212)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 16, 1000, 1024])
def test_batches_double_and_are_as_many_as_asked_for(n: int) -> None:
    sizes = batches(n)
    assert sum(sizes) == n and sizes == sorted(sizes)
    assert all(later <= 2 * earlier + 1 for earlier, later in pairwise(sizes))
    assert not sizes or (sizes[0] <= 2 and sizes[-1] >= min(n, 2, n / 2))


def test_a_batch_is_at_the_engine_all_at_once() -> None:
    with emulator("--dialect", "vllm", "--ttft-ms", "300") as engine:
        done = warm_up(engines_of([engine.url]), dataset(), 16, SAMPLING, 10)
        truth = engine.truth()
    assert (len(truth), done.requests, done.at_once) == (16, 16, 8)
    events = [(entry["arrived_ns"], 1) for entry in truth]
    events += [(entry["done_ns"], -1) for entry in truth]
    open_now = list(accumulate(step for _, step in sorted(events)))
    assert max(open_now) == 8


def test_a_ladder_of_lengths_comes_first_one_prompt_at_a_time() -> None:
    flags = ("--dialect", "vllm", "--vocab", "900", "--ttft-ms", "5")
    with emulator(*flags) as one, emulator(*flags, "--context", "100") as two:
        done = warm_up(engines_of([one.url, two.url]), dataset(), 2, SAMPLING, 10, longest=200)
        truths = [one.truth(), two.truth()]
    # The shorter context holds 99 tokens and an answer.
    assert (done.requests, done.longest) == (2 + 6, 96)
    for truth in truths:
        assert [entry["prompt_tokens"] for entry in truth[:6]] == [31, 32, 63, 64, 95, 96]
        assert [entry["n_tokens"] for entry in truth] == [1] * 6 + [16] * 2
        assert all(b["arrived_ns"] > a["done_ns"] for a, b in pairwise(truth[:7]))


@pytest.mark.parametrize(
    ("most", "connections"), [(resource.RLIM_INFINITY, 2048), (65_536, 2048), (1024, 768)]
)
def test_connections_leave_room_for_other_files(
    monkeypatch: pytest.MonkeyPatch, most: int, connections: int
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (512, most))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: raised.append(limits))
    assert warmup._connections() == connections and raised == [(most, most)]


def test_the_ladder_is_unlike_the_dataset() -> None:
    prompts = dataset()
    taken = {prompt[:FIRST_BLOCK].tobytes() for prompt in prompts}
    rungs = ladder_prompts(prompts, 128, 3)
    heads = [prompt[:FIRST_BLOCK].tobytes() for rung in rungs for prompt in rung]
    assert [len(rung) for rung in rungs] == [3] * 8 and len({*heads} - taken) == 24
    assert ladder_prompts(prompts, 31, 3) == []


def test_none_are_sent_when_none_are_wanted() -> None:
    with emulator("--dialect", "vllm") as engine:
        done = warm_up(engines_of([engine.url]), dataset(), 0, SAMPLING, 10)
        assert engine.truth() == [] and done.prompt_tokens == 0


def test_an_answer_of_one_token_is_an_answer() -> None:
    with emulator("--dialect", "vllm", "--osl", "1") as engine:
        warm_up(engines_of([engine.url]), dataset(), 1, SAMPLING, 10)


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("http_500", "HTTP 500"),
        ("wrong_count", "17"),
        ("empty", "no tokens"),
        ("abort", "abort"),
        ("malformed", "malformed JSON"),
        ("reset", ""),
    ],
)
def test_a_replica_that_fails_is_named_with_the_reason(
    dialect: str, fault: str, reason: str
) -> None:
    flags = ("--dialect", dialect)
    with emulator(*flags) as well, emulator(*flags, "--fault", f"{fault}:every=1") as ill:
        with pytest.raises(SetupError, match="warm-up request failed") as caught:
            warm_up(engines_of([well.url, ill.url]), dataset(), 1, SAMPLING, 10)
        assert str(caught.value).startswith(f"{ill.url}: ") and reason in str(caught.value)


def test_one_that_is_silent_holds_up_no_longer_than_the_limit() -> None:
    with emulator("--dialect", "vllm", "--fault", "silent:every=1") as engine:
        engines = engines_of([engine.url])
        began = time.monotonic()
        with pytest.raises(SetupError, match="timed out"):
            warm_up(engines, dataset(), 2, SAMPLING, 0.3)
        assert time.monotonic() - began < 3


def test_a_failure_is_told_before_the_slow_ones_end() -> None:
    flags = ("--dialect", "vllm", "--ttft-ms", "8000")
    with emulator(*flags) as slow, emulator("--dialect", "vllm") as gone:
        engines = engines_of([slow.url, gone.url])
        gone.process.terminate()
        gone.process.wait(10)
        began = time.monotonic()
        with pytest.raises(SetupError, match=f"{gone.url}: .*refused"):
            warm_up(engines, dataset(), 1, SAMPLING, 10)
        assert time.monotonic() - began < 4
