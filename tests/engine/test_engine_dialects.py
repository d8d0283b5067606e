"""Both dialects against the clock: events, bodies, errors and pages as real engines have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.clock import answer_ids
from engine.options import parse_args
from tests.engine.client import Engine, clock, read, understand, wait_until

CONTEXT, VOCAB = 100, 1000
PROMPT = [3, 1, 4, 1, 5]
BOTH = pytest.mark.parametrize("dialect", ["vllm", "sglang"])
STREAMED = pytest.mark.parametrize("stream", [True, False])


@pytest.fixture(scope="module")
def both() -> Iterator[Engine]:
    with clock("--context", str(CONTEXT), "--vocab", str(VOCAB)) as started:
        yield started


@BOTH
@STREAMED
def test_answers_are_the_documented_ids(both: Engine, dialect: str, stream: bool) -> None:
    answer = understand(dialect, both.ask(dialect, PROMPT, 7, stream=stream))
    assert answer.ids == answer_ids(PROMPT, 7, VOCAB)
    assert (answer.finish, answer.counted) == ("length", 7)


def test_vllm_streams_deltas(both: Engine) -> None:
    reply = both.ask("vllm", PROMPT, 3)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["transfer-encoding"] == "chunked"
    *events, usage = reply.events
    assert [len(event["choices"][0]["token_ids"]) for event in events] == [1, 1, 1]
    prompts = [event["choices"][0]["prompt_token_ids"] for event in events]
    assert prompts == [PROMPT, None, None]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, "length"]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 5, "total_tokens": 8, "completion_tokens": 3}
    assert {event["id"] for event in reply.events} == {usage["id"]}


def test_vllm_keeps_ids_and_usage_to_itself_unless_asked(both: Engine) -> None:
    reply = both.send("POST", "/v1/completions", {"prompt": PROMPT, "stream": True})
    assert len(reply.events) == 16  # vLLM's default
    assert all(event["choices"][0]["token_ids"] is None for event in reply.events)
    assert all(event["choices"][0]["prompt_token_ids"] is None for event in reply.events)


def test_vllm_clamps_to_the_context(both: Engine) -> None:
    answer = understand("vllm", both.ask("vllm", [1] * 90, 50))
    assert (len(answer.ids), answer.finish) == (10, "length")


def test_sglang_streams_all_ids_so_far(both: Engine) -> None:
    events = both.ask("sglang", PROMPT, 3).events
    ids = answer_ids(PROMPT, 3, VOCAB)
    assert [event["output_ids"] for event in events] == [ids[:1], ids[:2], ids]
    assert [event["meta_info"]["completion_tokens"] for event in events] == [1, 2, 3]
    assert [event["meta_info"]["finish_reason"] for event in events] == [
        None,
        None,
        {"type": "length", "length": 3},
    ]
    assert events[0]["meta_info"]["prompt_tokens"] == 5
    assert events[0]["meta_info"]["cached_tokens"] == 0


def test_sglang_streams_increments_when_told_to() -> None:
    with clock("--incremental", "--chunk", "2") as engine:
        events = engine.ask("sglang", PROMPT, 4).events
        ids = answer_ids(PROMPT, 4, 201_088)
        assert [event["output_ids"] for event in events] == [ids[:1], ids[1:3], ids[3:]]
        assert [event["meta_info"]["completion_tokens"] for event in events] == [1, 3, 4]
        info = engine.send("GET", "/server_info").json
        assert info["incremental_streaming_output"] is True
        assert info["stream_interval"] == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[1]", 400),
        ({"prompt": []}, 400),
        ({"prompt": "words"}, 400),
        ({"prompt": [1, 2.5]}, 400),
        ({"prompt": [[1], [2]]}, 400),
        ({"prompt": [VOCAB]}, 400),
        ({"prompt": [-1]}, 400),
        ({"prompt": [1] * CONTEXT}, 400),
        ({"prompt": [1], "max_tokens": 0}, 400),
        ({"prompt": [1], "temperature": -1}, 400),
        ({"prompt": [1], "top_p": 0}, 400),
        ({"prompt": [1], "model": "another"}, 404),
    ],
)
def test_vllm_refuses(both: Engine, body: Any, status: int) -> None:
    if isinstance(body, dict):
        body["stream"] = True  # makes no difference to vLLM
    reply = both.send("POST", "/v1/completions", body)
    assert (reply.status, reply.json["error"]["code"]) == (status, status)
    assert reply.json["error"]["message"]
    assert both.truth()[-1]["finish"] == "refused"


@pytest.mark.parametrize(
    "body",
    [
        {"input_ids": []},
        {"input_ids": [VOCAB]},
        {"input_ids": [1] * 90, "sampling_params": {"max_new_tokens": 11}},
        {"input_ids": [1], "sampling_params": {"max_new_tokens": 5, "top_k": "x"}},
    ],
)
def test_sglang_refuses_streams_inside_http_200(both: Engine, body: dict[str, Any]) -> None:
    reply = both.send("POST", "/generate", body)
    assert reply.status == 400
    message = reply.json["error"]["message"]
    streamed = both.send("POST", "/generate", {**body, "stream": True})
    assert streamed.status == 200
    [event] = streamed.events
    assert (event["error"]["message"], event["error"]["code"]) == (message, 400)


def test_sglang_does_not_know_max_tokens(both: Engine) -> None:
    body = {"input_ids": [1], "sampling_params": {"max_tokens": 5}}
    reply = both.send("POST", "/generate", body)
    assert (reply.status, reply.body) == (500, b"Internal Server Error")


def test_pages(both: Engine) -> None:
    assert both.send("GET", "/v1/models").json["data"][0]["max_model_len"] == CONTEXT
    assert both.send("GET", "/server_info").json["context_length"] == CONTEXT
    assert both.send("GET", "/get_server_info").json["version"].endswith("+clock")
    assert both.send("GET", "/get_model_info").json["is_generation"] is True
    assert both.send("GET", "/health").status == 200
    assert both.send("POST", "/flush_cache").status == 200
    assert both.send("GET", "/nowhere").status == 404


VLLM_ONLY = [("POST", "/v1/completions"), ("GET", "/v1/models"), ("GET", "/version")]
SGLANG_ONLY = [("POST", "/generate"), ("GET", "/server_info"), ("GET", "/get_model_info")]


@pytest.mark.parametrize(
    ("dialect", "own", "foreign"),
    [("vllm", VLLM_ONLY, SGLANG_ONLY), ("sglang", SGLANG_ONLY, VLLM_ONLY)],
)
def test_an_engine_of_one_dialect_has_no_path_of_the_other(
    dialect: str, own: list[tuple[str, str]], foreign: list[tuple[str, str]]
) -> None:
    with clock("--dialect", dialect) as engine:
        assert all(engine.send(method, path).status != 404 for method, path in own)
        assert all(engine.send(method, path).status == 404 for method, path in foreign)
        assert engine.send("GET", "/health").status == 200


def test_metrics_and_abort() -> None:
    with clock("--itl-ms", "60000", "--max-running", "1") as engine:
        running = engine.start_asking("sglang", PROMPT, 9)
        wait_until(lambda: engine.metric("num_requests_running") == 1)
        waiting = engine.start_asking("sglang", PROMPT, 9)
        wait_until(lambda: engine.metric("num_requests_waiting") == 1)
        assert engine.send("POST", "/flush_cache").status == 400
        assert engine.metric("generation_tokens_total") == 1
        assert engine.send("POST", "/abort_request", {"abort_all": True}).status == 200
        for connection in (running, waiting):
            with connection:
                assert understand("sglang", read(connection)).finish == "abort"
        assert engine.metric("num_requests_running") == 0
        assert engine.metric("prompt_tokens_total") == 10
        assert engine.metric("request_success_total") == 2


@pytest.fixture(scope="module")
def scoring() -> Iterator[Engine]:
    flags = ("--context", str(CONTEXT), "--vocab", str(VOCAB), "--itl-ms", "1", "--chunk", "3")
    with clock(*flags, "--logprob", "-1.25") as started:
        yield started


def test_vllm_gives_every_prompt_token_the_same_logprob(scoring: Engine) -> None:
    body = {"prompt": PROMPT, "max_tokens": 1, "prompt_logprobs": 0}
    found = scoring.send("POST", "/v1/completions", body).json
    entries = [{str(i): {"logprob": -1.25, "rank": 1, "decoded_token": None}} for i in PROMPT[1:]]
    assert found["choices"][0]["prompt_logprobs"] == [None, *entries]
    assert found["usage"]["prompt_tokens"] == len(PROMPT)
    assert "prompt_logprobs" not in scoring.ask("vllm", PROMPT, 1, stream=False).json["choices"][0]


@pytest.mark.parametrize("n", [0, 1, 5])
def test_sglang_gives_every_prompt_token_the_same_logprob(scoring: Engine, n: int) -> None:
    more = {"return_logprob": True, "logprob_start_len": 0}
    body = {"input_ids": PROMPT, "sampling_params": {"max_new_tokens": n}, **more}
    found = scoring.send("POST", "/generate", body).json
    entries = [[None, PROMPT[0], None], *([-1.25, token, None] for token in PROMPT[1:])]
    assert found["meta_info"]["input_token_logprobs"] == entries
    assert found["output_ids"] == answer_ids(PROMPT, n, VOCAB)
    assert found["meta_info"]["finish_reason"] == {"type": "length", "length": n}
    plain = scoring.ask("sglang", PROMPT, 1, stream=False).json
    assert "input_token_logprobs" not in plain["meta_info"]


def test_without_the_flag_the_clock_has_no_logprobs(both: Engine) -> None:
    for path, body in (
        ("/v1/completions", {"prompt": PROMPT, "prompt_logprobs": 0}),
        ("/generate", {"input_ids": PROMPT, "return_logprob": True, "logprob_start_len": 0}),
    ):
        reply = both.send("POST", path, body)
        assert reply.status == 400
        assert "the clock keeps time" in reply.json["error"]["message"]


@pytest.mark.parametrize("value", ["0.1", "-inf", "nan", "x"])
def test_a_logprob_is_a_logarithm_of_a_probability(value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_args(["clock", f"--logprob={value}"])
    assert caught.value.code == 2
