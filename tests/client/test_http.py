"""Any split of the byte stream gives the same answer: heads, bodies, events, and whole exchanges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import create_backend
from backends.base import Answer, AnswerError
from client.exchange import MAX_ASIDE, Exchange
from client.http import ChunkedBody, EventSplitter, plain_events, read_head
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
    return exchange.finish(1000, stream=True)


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


# Skimming: the same answers as from a reader that has never heard of it -------------------------

Event = dict[str, Any]
HOSTILE = st.sampled_from(
    [
        "a",
        TEXT,
        '"token_ids":[5]',
        '"output_ids":[5],"completion_tokens":9',
        '"finish_reason":"stop"}\n\n\r\n1f\r\ndata: {"error": 1}',
        '{"error":{"message":"no"}}',
        "\\",
        '\\"token_ids":[1]\\',
        "ünï",
    ]
)
TOKENS = st.lists(st.integers(0, 201_087), min_size=1, max_size=4)


def plain_answer(backend: str, payloads: Sequence[bytes]) -> tuple[list[int], object]:
    """The ids and the end by the dialect's own definition, event by event, by the json module."""
    ids: list[int] = []
    for payload in payloads:
        if payload == b"[DONE]":
            continue
        try:
            event = json.loads(payload)
        except ValueError:
            return ids, Outcome.BAD_STREAM
        if "error" in event:
            return ids, Outcome.ENGINE_ERROR
        if backend == "vllm":
            ids += [i for choice in event["choices"] for i in choice["token_ids"]]
        else:
            now = event["meta_info"]["completion_tokens"]
            got = event["output_ids"]
            ids += got[len(got) - (now - len(ids)) :]
    return ids, None


@st.composite
def streams(draw: st.DrawFn, backend: str) -> list[bytes]:
    """Payloads of one answer, as the engines' own JSON writers make them, or with spaces."""
    new = draw(st.lists(TOKENS, min_size=2, max_size=40))
    shape = draw(st.sampled_from(["cumulative", "incremental"]))
    finish = draw(st.sampled_from(["with ids", "alone"]))
    events: list[Event] = []
    ids: list[int] = []
    for i, more in enumerate(new):
        ids = ids + more
        last = i == len(new) - 1 and finish == "with ids"
        shown = ids if shape == "cumulative" else more
        events.append(payload_of(backend, draw(HOSTILE), shown, more, len(ids), last))
    if finish == "alone":
        shown = ids if shape == "cumulative" else []
        events.append(payload_of(backend, "", shown, [], len(ids), True))
    if backend == "vllm":
        usage = {"prompt_tokens": 3, "completion_tokens": len(ids)}
        events.append({"choices": [], "usage": usage})
    dumps = draw(st.sampled_from([orjson.dumps, lambda event: json.dumps(event).encode()]))
    payloads = [dumps(event) for event in events]
    trouble = draw(st.sampled_from([None, None, b'{"error": {"message": "dead"}}', b'{"a":[1,']))
    if trouble is not None:
        payloads.insert(draw(st.integers(0, len(payloads) - 1)), trouble)
    return [*payloads, b"[DONE]"]


def payload_of(
    backend: str, text: str, shown: list[int], new: list[int], now: int, last: bool
) -> Event:
    if backend == "vllm":
        finish = "stop" if last else None
        choice = {"index": 0, "text": text, "finish_reason": finish, "token_ids": new}
        return {"id": "cmpl-1", "choices": [choice]}
    reason = {"type": "stop", "matched": 9} if last else None
    meta = {"id": "1", "prompt_tokens": 3, "completion_tokens": now, "finish_reason": reason}
    return {"text": text, "output_ids": shown, "meta_info": meta}


@st.composite
def wires(draw: st.DrawFn, payloads: list[bytes]) -> bytes:
    """An answer's bytes: an event in each chunk, as engines send them, or whatever a proxy makes."""
    pings = draw(st.sampled_from([b"", b"", b": ping\n\n", b": ping\r\n\r\n"]))
    framed = [b"data: " + payload + b"\n\n" for payload in payloads]
    if pings:
        framed = [piece for event in framed for piece in (pings, event)]
    if draw(st.booleans()):
        whole = b"".join(framed)
        places = draw(st.lists(st.integers(0, len(whole) - 1), max_size=30))
        framed = [piece for piece in cut(whole, places) if piece]
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"".join(map(chunk, framed)) + b"0\r\n\r\n"


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
@given(data=st.data())
def test_skimmed_answers_are_those_of_a_plain_reader(backend: str, data: st.DataObject) -> None:
    payloads = data.draw(streams(backend))
    wire = data.draw(wires(payloads))
    places = data.draw(st.lists(st.integers(1, len(wire) - 1), max_size=12))
    ids, trouble = plain_answer(backend, payloads)
    try:
        answer = receive(backend, cut(wire, places))
    except AnswerError as error:
        assert error.outcome is trouble, error.detail
    else:
        assert trouble is None
        assert np.frombuffer(answer.ids, "<i4").tolist() == ids
        assert (answer.prompt_tokens, answer.completion_tokens) == (3, len(ids))


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_regular_events_are_skimmed_and_not_parsed(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lest the tests above prove something about a path that nobody takes."""
    taken: list[int] = []
    reader_type = type(create_backend(backend).reader())
    skim = reader_type.skim

    def counted(self: Any, events: bytes, n: int) -> bool:
        done = skim(self, events, n)
        taken.append(n if done else 0)
        return done

    monkeypatch.setattr(reader_type, "skim", counted)
    payloads = [orjson.dumps(payload_of(backend, TEXT, [i], [i], i, i == 50)) for i in range(1, 51)]
    usage = {"prompt_tokens": 3, "completion_tokens": 50}
    if backend == "vllm":
        payloads.append(orjson.dumps({"choices": [], "usage": usage}))
    wire = response(payloads)
    place = wire.index(b"}\n\n\r\n") + 5
    answer = receive(backend, [wire[:place], wire[place:]])
    assert np.frombuffer(answer.ids, "<i4").tolist() == list(range(1, 51))
    assert sum(taken) == 48  # all but the first, and the last with its finish reason


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
@pytest.mark.parametrize("place", [8, 30, 60, 120])
def test_an_event_whose_front_has_been_read(backend: str, place: int) -> None:
    """A proxy's chunk ends within it and is read on its own; the rest looks regular."""
    events = [
        b"data: " + orjson.dumps(payload_of(backend, "a" * 60, [i], [i], i, i == 5)) + b"\n\n"
        for i in range(1, 6)
    ]
    if backend == "vllm":
        usage = {"prompt_tokens": 3, "completion_tokens": 5}
        events.append(b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n")
    head = response([])[: response([]).index(b"\r\n\r\n") + 4]
    front = chunk(events[1][:place])
    rest = chunk(events[1][place:]) + b"".join(map(chunk, events[2:])) + b"0\r\n\r\n"
    middle = rest.index(chunk(events[3])) + len(chunk(events[3]))
    pieces = [head + chunk(events[0]), front[:-3], front[-3:]]  # so short that it is read at once
    pieces += [rest[: middle - 3], rest[middle - 3 : middle], rest[middle:]]
    assert np.frombuffer(receive(backend, pieces).ids, "<i4").tolist() == [1, 2, 3, 4, 5]


GOOD = b'data: {"a":1}\n\n'


@pytest.mark.parametrize(
    ("chunks", "n"),
    [
        ([GOOD], 1),
        ([GOOD, GOOD, GOOD], 3),
        ([GOOD, GOOD, b"data: [DONE]\n\n"], 2),  # the rest is read
        ([GOOD, GOOD, b'data: {"special":1}\n\n', GOOD], 2),
        ([GOOD, GOOD[:9]], 1),
        ([GOOD[:9], GOOD[9:]], 0),  # an event in two chunks
        ([GOOD, GOOD[:9], GOOD[9:]], 0),
        ([GOOD + GOOD], 0),  # two in one
        ([GOOD + GOOD[:9], GOOD[9:]], 0),  # as many chunks as events, yet not each in its own
        ([GOOD, b": ping\n\n", GOOD], 0),
        ([GOOD, b": ping\r\n\r\n", GOOD], 0),
        ([b'event: x\ndata: {"a":1}\n\n'], 0),
        ([b'data: {"a":\ndata: 1}\n\n'], 0),
        ([b'data: {"a":1}\r\n\r\n'], 0),
        ([b'data: {"a":[1,\n\n', GOOD], 0),
        ([b"data: [DONE]\n\n"], 0),
        ([], 0),
    ],
)
def test_what_is_regular(chunks: list[bytes], n: int) -> None:
    data = b"".join(map(chunk, chunks))
    size, found = plain_events(data, b'"special":')
    assert found == n
    assert size == len(b"".join(map(chunk, chunks[:n])))


def events_of(*payloads: bytes) -> bytes:
    return b"".join(chunk(b"data: " + payload + b"\n\n") for payload in payloads)


def sglang_event(ids: bytes, now: int) -> bytes:
    return b'{"output_ids":[%b],"meta_info":{"completion_tokens":%d}}' % (ids, now)


@pytest.mark.parametrize(
    ("payloads", "ids"),
    [
        ([sglang_event(b"1,2,3", 3)], [1, 2, 3]),
        ([sglang_event(b"1,2,3", 3), sglang_event(b"1,2,3,4", 4)], [1, 2, 3, 4]),
        ([sglang_event(b"3", 3), sglang_event(b"4,5", 5)], [1, 2, 3, 4, 5]),
        ([sglang_event(b"4", 4)], None),  # one is missing
        ([sglang_event(b"3", 3), sglang_event(b"1,2,3,4", 4)], [1, 2, 3, 4]),  # both forms
        ([sglang_event(b"1,2,3", 3), sglang_event(b"4", 4)], None),
        ([sglang_event(b"1", 1)], None),  # fewer than there were
        ([sglang_event(b"", 2)], None),
        ([sglang_event(b"3", 3), b'{"meta_info":{"completion_tokens":3}}'], None),
        ([sglang_event(b"1,2,3", 3), b'{"a":1}'], None),  # the last one says nothing
        ([b'{"error":{"message":"x"}}', sglang_event(b"1,2,3", 3)], None),
        ([sglang_event(b'"3"', 3)], None),
        ([sglang_event(b"3.5", 3)], None),
        ([sglang_event(b"[3]", 3)], None),
        ([sglang_event(b"4294967296", 3)], None),
        ([sglang_event(b"null", 3)], None),
    ],
)
def test_what_sglang_skims(payloads: list[bytes], ids: list[int] | None) -> None:
    reader = create_backend("sglang").reader()
    reader.feed([orjson.dumps(payload_of("sglang", "", [1, 2], [1, 2], 2, False))])
    assert reader.skim(events_of(*payloads), len(payloads)) == (ids is not None)
    assert np.frombuffer(reader.ids, "<i4").tolist() == (ids or [1, 2])


def vllm_event(ids: bytes) -> bytes:
    return b'{"choices":[{"text":"","token_ids":%b,"finish_reason":null}]}' % ids


@pytest.mark.parametrize(
    ("payloads", "ids"),
    [
        ([vllm_event(b"[1]"), vllm_event(b"[2,3]")], [1, 2, 3]),
        ([vllm_event(b"[1]"), vllm_event(b"[]")], None),
        ([vllm_event(b"[1]"), vllm_event(b"null")], None),
        ([vllm_event(b'["1"]')], None),
        ([vllm_event(b"[1.5]")], None),
        ([vllm_event(b"[[1]]")], None),
        ([vllm_event(b"[1,]")], None),
        ([vllm_event(b"[2147483648]")], None),
        ([vllm_event(b"[1]"), b'{"choices":[],"usage":{}}'], None),
        ([vllm_event(b"[1]"), b'{"error": {"message":"x"}}'], None),
    ],
)
def test_what_vllm_skims(payloads: list[bytes], ids: list[int] | None) -> None:
    reader = create_backend("vllm").reader()
    assert reader.skim(events_of(*payloads), len(payloads)) == (ids is not None)
    assert np.frombuffer(reader.ids, "<i4").tolist() == (ids or [])
