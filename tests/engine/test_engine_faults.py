"""Each fault does what it says, to the requests it should, at the token it should."""

from __future__ import annotations

import json

import pytest

from engine.clock import answer_ids
from engine.faults import Fault, parse_fault
from tests.engine.client import PATHS, Engine, Reply, asking, clock, encode, read, understand

PROMPT, N, AT = [9, 9, 9], 8, 3
IDS = answer_ids(PROMPT, N, 201_088)
ANSWERS = [(dialect, stream) for dialect in PATHS for stream in (True, False)]


def ask(engine: Engine, dialect: str, *, stream: bool = True, seconds: float = 20.0) -> Reply:
    with engine.connect() as connection:
        body = asking(dialect, PROMPT, N, stream=stream)
        connection.sendall(encode("POST", PATHS[dialect], body))
        return read(connection, seconds)


def seen_ids(dialect: str, reply: Reply) -> list[int]:
    """The ids of a stream that may have broken off."""
    if dialect == "sglang":
        return list(reply.seen[-1]["output_ids"]) if reply.seen else []
    choices = [choice for event in reply.seen for choice in event["choices"]]
    return [i for choice in choices for i in choice["token_ids"]]


def test_faults_are_parsed() -> None:
    assert parse_fault("close") == Fault("close", every=1, after=0, at=2)
    assert parse_fault("stall:at=0:every=3:after=10") == Fault("stall", every=3, after=10, at=0)
    for wrong in ("typo", "close:when=1", "close:at=x", "close:every=0", "close:at=-1"):
        with pytest.raises(ValueError):
            parse_fault(wrong)


def test_only_every_nth_request_after_the_kth_is_struck() -> None:
    with clock("--fault", "empty:every=3:after=2", "--fault", "http_500:after=5") as engine:
        statuses = [ask(engine, "vllm").status for _ in range(8)]
        faults = [entry["fault"] for entry in engine.truth()]
    assert faults == [None] * 4 + ["empty"] + ["http_500"] * 2 + ["empty"]
    assert statuses == [200] * 5 + [500] * 2 + [200]


@pytest.mark.parametrize("kind", ["close", "reset", "stall"])
def test_broken_off(kind: str) -> None:
    with clock("--fault", f"{kind}:at={AT}", "--chunk", "4") as engine:
        for dialect in PATHS:
            reply = ask(engine, dialect, seconds=0.3 if kind == "stall" else 20)
            assert (reply.status, reply.complete, reply.reset) == (200, False, kind == "reset")
            if kind != "reset":  # an RST may overtake what the client has not read yet
                assert seen_ids(dialect, reply) == IDS[:AT]
            assert engine.truth()[-1]["n_tokens"] == AT
            if kind != "stall":
                body = ask(engine, dialect, stream=False)
                assert (body.complete, body.reset) == (False, kind == "reset")


def test_silent() -> None:
    with clock("--fault", "silent") as engine:
        for dialect in PATHS:
            reply = ask(engine, dialect, stream=dialect == "vllm", seconds=0.2)
            assert (reply.status, reply.chunks) == (0, [])
        assert [entry["finish"] for entry in engine.truth()] == ["disconnected"] * 2


def test_http_500() -> None:
    with clock("--fault", "http_500") as engine:
        for dialect, stream in ANSWERS:
            reply = ask(engine, dialect, stream=stream)
            assert (reply.status, reply.json["error"]["code"]) == (500, 500)


def test_malformed() -> None:
    with clock("--fault", f"malformed:at={AT}") as engine:
        for dialect in PATHS:
            reply = ask(engine, dialect)
            assert reply.complete
            broken = reply.chunks.pop(AT)
            with pytest.raises(json.JSONDecodeError):
                json.loads(broken.removeprefix(b"data: "))
            assert understand(dialect, reply).ids == IDS
            with pytest.raises(json.JSONDecodeError):
                json.loads(ask(engine, dialect, stream=False).body)


@pytest.mark.parametrize(
    ("fault", "n", "finish"),
    [
        ("empty", 0, "stop"),
        ("one_token", 1, "stop"),
        (f"abort:at={AT}", AT, "abort"),
        (f"out_of_context:at={AT}", AT, "length"),
    ],
)
def test_ended_early(fault: str, n: int, finish: str) -> None:
    with clock("--fault", fault) as engine:
        for dialect, stream in ANSWERS:
            answer = understand(dialect, ask(engine, dialect, stream=stream))
            assert (answer.ids, answer.finish, answer.counted) == (IDS[:n], finish, n)
            assert engine.truth()[-1]["n_tokens"] == n


def test_wrong_count() -> None:
    with clock("--fault", "wrong_count") as engine:
        for dialect, stream in ANSWERS:
            answer = understand(dialect, ask(engine, dialect, stream=stream))
            assert (answer.ids, answer.finish, answer.counted) == (IDS, "length", N + 1)


def test_error_event() -> None:
    with clock("--fault", f"error_event:at={AT}") as engine:
        for dialect in PATHS:
            reply = ask(engine, dialect)
            assert (reply.status, reply.complete) == (200, True)
            *events, error = reply.events
            assert (len(events), error["error"]["code"]) == (AT, 500)
            assert ask(engine, dialect, stream=False).status == 500


@pytest.mark.parametrize("dialect", PATHS)
def test_die(dialect: str) -> None:
    with clock("--fault", f"die:after=1:at={AT}") as engine:
        assert understand(dialect, ask(engine, dialect)).ids == IDS
        reply = ask(engine, dialect)
        assert not reply.complete
        assert reply.reset or seen_ids(dialect, reply) == IDS[:AT]
        assert engine.process.wait(5) == 1


def test_a_fault_beyond_the_end_strikes_at_the_end() -> None:
    flags = ("--fault", "abort:at=100:after=2", "--fault", "close:at=100:after=1")
    with clock(*flags, "--fault", "error_event:at=100") as engine:
        assert "error" in ask(engine, "vllm").events[-1]
        reply = ask(engine, "vllm")
        assert (reply.complete, seen_ids("vllm", reply)) == (False, IDS)
        assert understand("vllm", ask(engine, "vllm")).finish == "abort"
