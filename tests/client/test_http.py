"""Any split of the byte stream gives the same answer: heads, bodies, events, and whole exchanges."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import create_backend
from backends.base import Answer, AnswerError
from client.exchange import MAX_ASIDE, Exchange
from client.http import ChunkedBody, EventSplitter, read_head
from core.outcome import Finish, Outcome

IDS = [200005, 7, 11, 42, 0, 201087, 9]
TEXT = "a\r\n\r\n0\r\n\r\ndata: [DONE]\n\n"  # escaped by JSON, yet full of what framing looks like


def vllm_events() -> list[bytes]:
    chunks = [
        {"choices": [{"text": TEXT, "token_ids": [i], "finish_reason": None}]} for i in IDS[:-1]
    ]
    chunks.append({"choices": [{"text": "", "token_ids": IDS[-1:], "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 3, "completion_tokens": len(IDS)}
    return [json.dumps(c).encode() for c in [*chunks, {"choices": [], "usage": usage}]]


def sglang_events(incremental: bool) -> list[bytes]:
    events = []
    for n in range(1, len(IDS) + 1):
        finish = {"type": "stop", "matched": 9} if n == len(IDS) else None
        meta = {"finish_reason": finish, "prompt_tokens": 3, "completion_tokens": n}
        ids = IDS[n - 1 : n] if incremental else IDS[:n]
        events.append(json.dumps({"text": TEXT, "output_ids": ids, "meta_info": meta}).encode())
    return events


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def response(events: list[bytes], end: bytes = b"\n\n", ping: bytes = b"") -> bytes:
    head = (
        b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    body = b"".join(chunk(ping) + chunk(b"data: " + e + end) if ping else chunk(b"data: " + e + end)
                    for e in [*events, b"[DONE]"])  # fmt: skip
    return head + body + b"0\r\n\r\n"


RESPONSES = {
    "vllm": [response(vllm_events()), response(vllm_events(), b"\r\n\r\n", b": ping\r\n\r\n")],
    "sglang": [response(sglang_events(False)), response(sglang_events(True), ping=b": ping\n\n")],
}


def receive(backend: str, pieces: list[bytes]) -> Answer:
    """What client.connection does with the reads of one answer."""
    exchange = Exchange(1, 0, 0, 3, create_backend(backend).reader())
    for now, piece in enumerate(pieces, 1):
        assert not exchange.ended
        if exchange.cheap:
            if exchange.put_aside(piece):
                exchange.read(b"", now)
        else:
            exchange.read(piece, now)
    assert exchange.ended
    return exchange.finish(100, stream=True)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]  # noqa: RUF007


@pytest.mark.parametrize("backend", RESPONSES)
@given(places=st.lists(st.integers(0, 1 << 20), max_size=60), which=st.integers(0, 1))
def test_any_split_gives_the_same_answer(backend: str, places: list[int], which: int) -> None:
    answer = receive(backend, cut(RESPONSES[backend][which], places))
    assert np.frombuffer(answer.ids, "<i4").tolist() == IDS
    assert answer.finish is Finish.STOP
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, len(IDS))


@pytest.mark.parametrize("backend", RESPONSES)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64])
def test_pieces_of_one_size(backend: str, size: int) -> None:
    for data in RESPONSES[backend]:
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert np.frombuffer(receive(backend, pieces).ids, "<i4").tolist() == IDS


def test_first_token_is_a_token_and_not_a_head_or_a_ping() -> None:
    exchange = Exchange(1, 0, 0, 3, create_backend("vllm").reader())
    data = response(vllm_events(), ping=b": ping\n\n")
    first_event_end = data.index(b"\n\n", data.index(b"data:")) + 4  # with its chunk's CRLF
    exchange.read(data[: first_event_end - 4], 1)
    assert exchange.first_token_ns == 0
    exchange.read(data[first_event_end - 4 : first_event_end], 2)
    assert exchange.first_token_ns == 2


def test_raw_bytes_kept_per_stream_are_bounded() -> None:
    exchange = Exchange(1, 0, 0, 3, create_backend("vllm").reader())
    exchange.read(response([])[: -len(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")], 1)
    event = b'data: {"choices":[{"token_ids":[5],"finish_reason":null}]}\n\n'
    exchange.read(chunk(event), 2)
    most = 0
    for now in range(5000):
        if exchange.put_aside(chunk(event)):
            exchange.read(b"", now)
        most = max(most, len(exchange._aside))
    assert most <= MAX_ASIDE + 100
    assert len(exchange.reader.ids) > 4 * 3000


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"x" * 10,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
    ],
)
def test_not_http_is_an_outcome(data: bytes) -> None:
    with pytest.raises(AnswerError) as caught:
        read_head(data)
    assert caught.value.outcome is Outcome.BAD_STREAM


def test_interim_answers_are_passed_over() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    head, start = read_head(data) or pytest.fail("incomplete")
    assert (head.status, head.length, data[start:]) == (200, 2, b"hi")


@pytest.mark.parametrize("wire", [b"zz\r\nab\r\n", b"2\r\nabc\r\n", b"0\r\n\r\nmore"])
def test_broken_chunks_are_an_outcome(wire: bytes) -> None:
    with pytest.raises(AnswerError):
        ChunkedBody().feed(wire)


def test_chunk_extensions_and_trailers() -> None:
    body = ChunkedBody()
    assert body.feed(b"3;a=b\r\nabc\r\n0\r\nx: y\r\n") == b"abc"
    assert not body.ended
    body.feed(b"\r\n")
    assert body.ended


def test_events_with_several_data_lines_and_other_fields() -> None:
    wire = b": hello\n\nevent: x\ndata: a\ndata:b\n\n\n\nid: 3\n\ndata: c\n\n"
    assert EventSplitter().feed(wire) == [b"a\nb", b"c"]
