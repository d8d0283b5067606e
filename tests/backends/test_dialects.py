"""Both dialects: what is sent, what is read, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest

from backends import create_backend
from backends.base import Answer, AnswerError, check_answer
from backends.detect import parse_url, without_secrets
from backends.vllm import without_prompt
from core.config import Sampling
from core.errors import ConfigError
from core.outcome import Finish, Outcome

SAMPLING = Sampling(max_tokens=8, temperature=1.0, top_k=0, top_p=1.0)
PROMPT = np.array([1, 200_000, 3], np.int32)


def test_vllm_request() -> None:
    body = json.loads(create_backend("vllm", "m").encode(PROMPT, SAMPLING, stream=True))
    assert body["prompt"] == [1, 200_000, 3]
    assert body["max_tokens"] == 8 and body["temperature"] == 1 and body["top_k"] == -1
    assert body["return_token_ids"] is True and body["model"] == "m"
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}


def test_sglang_request() -> None:
    body = json.loads(create_backend("sglang", "m").encode(PROMPT, SAMPLING, stream=False))
    assert body["input_ids"] == [1, 200_000, 3] and body["stream"] is False
    # An unknown sampling parameter (max_tokens) is an internal error of SGLang's.
    assert body["sampling_params"] == {
        "max_new_tokens": 8, "temperature": 1, "top_p": 1, "top_k": -1, "skip_special_tokens": False,
    }  # fmt: skip


def read(backend: str, events: list[Any], at_once: bool = True) -> Answer:
    reader = create_backend(backend).reader()
    payloads = [
        event if isinstance(event, bytes) else json.dumps(event).encode() for event in events
    ]
    if at_once:
        reader.feed(payloads)
    else:
        for payload in payloads:
            reader.feed([payload])
    return reader.finish()


def sglang(ids: list[int], n: int, finish: dict[str, Any] | None = None) -> dict[str, Any]:
    meta = {"finish_reason": finish, "prompt_tokens": 3, "completion_tokens": n}
    return {"output_ids": ids, "meta_info": meta}


STOP = {"type": "stop", "matched": 2}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    "events",
    [
        [sglang([1], 1), sglang([1, 2], 2), sglang([1, 2, 3], 3, STOP)],
        [sglang([1], 1), sglang([2], 2), sglang([3], 3, STOP)],
        [sglang([1], 1), sglang([2, 3], 3), sglang([], 3, STOP)],
        [sglang([1], 1), sglang([1, 2, 3], 3), sglang([1, 2, 3], 3, STOP)],
        [sglang([1, 2, 3], 3, STOP), b"[DONE]"],
    ],
    ids=["cumulative", "incremental", "empty last", "repeated last", "not streamed"],
)
def test_sglang_modes_give_the_same_ids(events: list[Any], at_once: bool) -> None:
    answer = read("sglang", events, at_once)
    assert np.frombuffer(answer.ids, "<i4").tolist() == [1, 2, 3]
    assert (answer.completion_tokens, answer.finish) == (3, Finish.STOP)


def vllm(ids: list[int] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"text": "", "token_ids": ids, "finish_reason": finish}], **more}


def test_vllm_prompt_ids_are_cut_out_and_nothing_else() -> None:
    hostile = 'say "prompt_token_ids":[9]'
    event = {"choices": [{"text": hostile, "prompt_token_ids": [1, 2], "token_ids": [3]}]}
    for payload in (orjson.dumps(event), json.dumps(event).encode(), b"{}"):
        cut = json.loads(without_prompt(payload))
        if payload != b"{}":
            cut["choices"][0]["prompt_token_ids"] = [1, 2]
            assert cut == event
    assert b"1,2" not in without_prompt(orjson.dumps(event))


USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


def test_vllm_without_stream() -> None:
    answer = read("vllm", [vllm([4, 5], "length", usage=USAGE)])
    assert (answer.n_tokens, answer.finish, answer.prompt_tokens) == (2, Finish.LENGTH, 3)


@pytest.mark.parametrize(
    ("backend", "events", "outcome"),
    [
        ("vllm", [vllm([1]), b"{"], Outcome.BAD_STREAM),
        ("vllm", [vllm([1]), {"unexpected": 1}], Outcome.BAD_STREAM),
        ("vllm", [vllm(["x"])], Outcome.BAD_STREAM),
        ("vllm", [vllm([1 << 31])], Outcome.BAD_STREAM),
        ("vllm", [vllm([1]), vllm([2])], Outcome.BAD_STREAM),
        ("vllm", [vllm([1]), {"error": {"message": "dead", "code": 500}}], Outcome.ENGINE_ERROR),
        ("vllm", [vllm([1], "abort")], Outcome.ENGINE_ERROR),
        ("sglang", [sglang([1], 1), b"{"], Outcome.BAD_STREAM),
        ("sglang", [sglang([1], 1), {"a": 1}], Outcome.BAD_STREAM),
        ("sglang", [sglang([1], 1)], Outcome.BAD_STREAM),
        ("sglang", [sglang([1], 2, STOP)], Outcome.COUNT_MISMATCH),
        ("sglang", [{"error": {"message": "too long"}}, b"[DONE]"], Outcome.ENGINE_ERROR),
        ("sglang", [sglang([1], 1, {"type": "abort", "message": "Aborted"})], Outcome.ENGINE_ERROR),
    ],
)  # fmt: skip
def test_unusable_answers(backend: str, events: list[Any], outcome: Outcome) -> None:
    with pytest.raises(AnswerError) as caught:
        read(backend, events)
    assert caught.value.outcome is outcome
    assert caught.value.detail


def test_sglang_count_that_shrinks() -> None:
    with pytest.raises(AnswerError) as caught:
        read("sglang", [sglang([1, 2], 2), sglang([1], 1, STOP)], at_once=False)
    assert caught.value.outcome is Outcome.COUNT_MISMATCH


@pytest.mark.parametrize(
    ("n", "finish", "prompt", "completion", "outcome"),
    [
        (0, Finish.STOP, 3, 0, Outcome.EMPTY),
        (1, Finish.STOP, 3, 1, Outcome.TOO_SHORT),
        (4, Finish.LENGTH, 3, 4, Outcome.TRUNCATED),
        (4, Finish.STOP, 2, 4, Outcome.COUNT_MISMATCH),
        (4, Finish.STOP, 3, 5, Outcome.COUNT_MISMATCH),
        (4, Finish.STOP, 3, None, Outcome.COUNT_MISMATCH),
        (9, Finish.LENGTH, 3, 9, Outcome.COUNT_MISMATCH),
    ],
)
def test_counts_are_checked(
    n: int, finish: Finish, prompt: int, completion: int | None, outcome: Outcome
) -> None:
    with pytest.raises(AnswerError) as caught:
        check_answer(Answer(bytes(4 * n), finish, prompt, completion), 3, 8)
    assert caught.value.outcome is outcome


def test_a_full_answer_passes() -> None:
    check_answer(Answer(bytes(32), Finish.LENGTH, 3, 8), 3, 8)


@pytest.mark.parametrize(
    "url", ["https://h:1", "http://h:x", "http://h:99999", "http://h/v1", "ftp://h", "http://", "http://u:p@h"]
)  # fmt: skip
def test_bad_urls(url: str) -> None:
    with pytest.raises(ConfigError, match="--server-url"):
        parse_url(url)


def test_good_urls() -> None:
    assert parse_url("http://node-1:30000/") == ("node-1", 30000)
    assert parse_url("node-1:30000") == ("node-1", 30000)
    assert parse_url("http://[::1]:8000") == ("::1", 8000)


def test_secrets_do_not_reach_the_manifest() -> None:
    found = without_secrets(
        {"a": [{"api_key": "s3cret", "max_total_num_tokens": 5}], "api_key": None}
    )
    assert found == {"a": [{"api_key": "***", "max_total_num_tokens": 5}], "api_key": None}
