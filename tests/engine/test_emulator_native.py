"""The compiled clock is the Python clock's twin: the same bytes, the same truth, the same manners.

Every request goes to both, in the same order, so that even the numbers of the answers agree.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.errors import SetupError
from engine.clock import answer_ids
from engine.emulator import SOURCE, build, compiler, run_emulator
from tests.engine.client import (
    PATHS,
    ROOT,
    Engine,
    Reply,
    asking,
    clock,
    encode,
    engine,
    read,
    understand,
    wait_until,
)

# .ci/run installs a compiler or stops: there it cannot be skipped unseen.
pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler")
MS = 1_000_000
PROMPT = [3, 1, 4, 159, 26_535]
PAGES = [
    "/health",
    "/version",
    "/v1/models",
    "/model_info",
    "/server_info",
    "/metrics",
    "/v1/loads",
]
PAGES += ["/nothing"]
IDS = "1,20, 300 ,4000,\n50000"


@contextmanager
def fast(*flags: str) -> Iterator[Engine]:
    with engine("fast", *flags) as started:
        yield started


@contextmanager
def twins(*flags: str) -> Iterator[tuple[Engine, Engine]]:
    with clock(*flags) as python, fast(*flags) as native:
        yield python, native


def without_time(data: bytes) -> bytes:
    return re.sub(rb'"created":\d+', b'"created":0', data)


def seen(reply: Reply) -> tuple[Any, ...]:
    """All that a client sees of an answer, less the time of day."""
    chunks = [without_time(chunk) for chunk in reply.chunks]
    return reply.status, reply.headers, chunks, without_time(reply.body), reply.complete


def raw(started: Engine, path: str, body: bytes) -> Reply:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    with started.connect() as connection:
        connection.sendall(head.encode() + body)
        return read(connection)


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--incremental", "--chunk", "4", "--osl", "9", "--served-name", "o-ss"),
        ("--vocab", "7", "--chunk", "100", "--ttft-ms", "2", "--itl-ms", "0.1"),
    ],
)
def test_answers_are_the_same_bytes(flags: tuple[str, ...]) -> None:
    prompt = [1, 2, 3, 6, 0, 6, 5]
    with twins(*flags) as both:
        for dialect in PATHS:
            for stream in (True, False):
                for n in (1, 2, 9, 30):
                    for more in ({}, {"ignore_eos": True}, {"temperature": 0.5, "top_k": -1}):
                        one, two = (e.ask(dialect, prompt, n, stream=stream, **more) for e in both)
                        assert seen(one) == seen(two)
        python, native = both
        assert metrics(python) == metrics(native)


def metrics(started: Engine) -> bytes:
    return started.send("GET", "/metrics").body


@pytest.mark.parametrize(
    "body",
    [
        f'{{"prompt":[{IDS}],"stream":true,"max_tokens":3}}',
        f'{{"prompt":[{IDS}],"stream":true,"max_tokens":3,"return_token_ids":true}}',
        f' {{ "prompt" : [ {IDS} ] , "return_token_ids" : true, "request_id":"a-1" }} ',
        f'{{"prompt":[{IDS}],"stream":1,"stream_options":{{"include_usage":true}},"max_tokens":2}}',
        f'{{"prompt":[{IDS}],"max_tokens":null,"other":[[],{{"a":[1.5e3,"\\"]"]}},-0.1,true]}}',
        f'{{"prompt":["x"],"prompt":[{IDS}],"stream":"","stream_options":null}}',
        f'{{"prompt":[{IDS}],"max_tokens":999999}}',
    ],
)
def test_requests_as_other_clients_write_them(body: str) -> None:
    with twins("--context", "20") as both:
        one, two = (seen(raw(started, PATHS["vllm"], body.encode())) for started in both)
        assert one == two
        assert one[0] == 200


REFUSED = [
    '{"prompt":[1,2,3,4,5,6,7,8,9,10,11,12]}',
    '{"prompt":[1],"model":"another"}',
    '{"prompt":[]}',
    '{"prompt":[1,-2]}',
    '{"prompt":[1,99]}',
    '{"prompt":[1,2.0]}',
    '{"prompt":[[1]]}',
    '{"prompt":"text"}',
    '{"prompt":[1],"max_tokens":0}',
    '{"prompt":[1],"max_tokens":1.5}',
    '{"prompt":[1],"top_p":1.5}',
    '{"prompt":[1],"temperature":-1}',
    '{"prompt":[1],"top_k":-2}',
    '{"prompt":[1],"prompt_logprobs":0}',
    "[1]",
    "{}",
    '{"input_ids":[1,2],"sampling_params":{"max_new_tokens":9}}',
    '{"input_ids":[1,2],"sampling_params":{"max_new_tokens":9},"stream":true}',
    '{"input_ids":[1],"sampling_params":{"max_tokens":9}}',
    '{"input_ids":[1],"sampling_params":{"max_new_tokens":2,"top_p":0}}',
    '{"input_ids":[1],"return_logprob":true}',
]
MALFORMED = ["", "{", '{"prompt":[1,]}', '{"prompt":[01]}', '{"a":1}x', '{"a":"\n"}', '{"a":tru}']


def test_refusals_are_the_same_bytes() -> None:
    with twins("--context", "10", "--vocab", "99") as both:
        for path in PATHS.values():
            for body in REFUSED:
                one, two = (seen(raw(started, path, body.encode())) for started in both)
                assert one == two, body
            for body in MALFORMED:  # only what the JSON parser finds wrong is in its own words
                one, two = (raw(started, path, body.encode()) for started in both)
                assert one.status == two.status == 400
                assert but_for_detail(one) == but_for_detail(two)


def but_for_detail(reply: Reply) -> str:
    return re.sub(r"(JSON decode error): [^\"]*", r"\1", json.dumps(reply.json))


def test_pages_are_the_same_bytes() -> None:
    for flags in ((), ("--dialect", "sglang", "--incremental"), ("--dialect", "vllm")):
        with twins(*flags, "--served-name", "gpt-oss") as both:
            for page in PAGES:
                one, two = (seen(started.send("GET", page)) for started in both)
                assert one == two, page
            one, two = (seen(started.send("POST", "/flush_cache")) for started in both)
            assert one == two
            python, native = both
            differing = {"ready", "pid"}
            assert {k: v for k, v in python.ready.items() if k not in differing} == {
                k: v for k, v in native.ready.items() if k not in {*differing, "replicas"}
            }


def test_truth_is_the_same_but_for_the_instants() -> None:
    with twins("--chunk", "3", "--osl", "8", "--vocab", "999") as both:
        for started in both:
            for dialect in PATHS:
                for stream in (True, False):
                    started.ask(dialect, [1, 2], 5, stream=stream)
                    started.ask(dialect, [5], 10, stream=stream)
                    started.ask(dialect, [1000], 5, stream=stream)
        one, two = (started.truth() for started in both)
        assert [list(entry) for entry in one] == [list(entry) for entry in two]
        assert [but_for_instants(e) for e in one] == [but_for_instants(e) for e in two]


def but_for_instants(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if not key.endswith("_ns")}


@pytest.mark.parametrize("stream", [True, False])
def test_truth_agrees_with_what_the_client_sees(stream: bool) -> None:
    gaps_ns = []  # shorter than 19 ms after a first event that a busy machine sent late
    with fast("--ttft-ms", "20", "--itl-ms", "1", "--chunk", "5") as native:
        before = time.monotonic_ns()
        for number in range(3):
            with native.start_asking("vllm", PROMPT, 21, stream=stream) as connection:
                reply = read(connection)
            after = time.monotonic_ns()
            entry = native.truth()[-1]
            assert before < entry["arrived_ns"] <= entry["first_ns"] <= entry["done_ns"] < after
            assert entry["done_ns"] - entry["arrived_ns"] >= 40 * MS
            if stream:
                assert entry["first_ns"] - entry["arrived_ns"] >= 20 * MS
                gaps_ns.append(entry["done_ns"] - entry["first_ns"])
            answered = understand("vllm", reply)
            assert answered.ids == answer_ids(PROMPT, 21, 201_088)
            assert (entry["number"], entry["n_tokens"]) == (number + 1, answered.counted)
            assert entry["n_events"] == (5 if stream else 1)
            assert entry["prompt_sum"] == sum(PROMPT)
            before = after
    assert max(gaps_ns, default=20 * MS) >= 19 * MS


def test_lateness_does_not_add_up() -> None:
    with fast("--ttft-ms", "10", "--itl-ms", "0.5") as native:
        late_ns = []
        for _ in range(4):  # the machine may be busy once, not four times
            native.ask("vllm", PROMPT, 300)
            entry = native.truth()[-1]
            late_ns.append(entry["done_ns"] - entry["arrived_ns"] - (10 * MS + 299 * MS // 2))
            assert late_ns[-1] >= 0
            if late_ns[-1] < 15 * MS:
                break
        assert min(late_ns) < 15 * MS  # a drift of 50 us an event, timer slack, would be as much


def test_the_log_can_be_forgotten_while_an_answer_is_open() -> None:
    with fast("--itl-ms", "20") as native, native.start_asking("vllm", PROMPT, 4) as connection:
        connection.recv(10, socket.MSG_PEEK)
        assert [entry["finish"] for entry in native.truth()] == [None]
        native.send("POST", "/truth/reset")
        assert read(connection).complete
        assert native.truth() == []
        native.ask("vllm", PROMPT, 1)
        assert [entry["number"] for entry in native.truth()] == [2]


def test_no_more_run_than_may_and_the_others_wait_in_order() -> None:
    flags = ("--max-running", "2", "--ttft-ms", "20")
    with fast(*flags) as native, ExitStack() as stack:
        connections = [stack.enter_context(native.start_asking("vllm", [i], 2)) for i in range(5)]
        wait_until(lambda: native.metric("num_requests_waiting") == 3)
        assert native.metric("num_requests_running") == 2
        assert all(read(connection).complete for connection in connections)
        first_ns = [entry["first_ns"] for entry in native.truth()]
        assert first_ns == sorted(first_ns)
        assert first_ns[4] - first_ns[0] >= 2 * 20 * MS
        assert native.metric("num_requests_waiting") == native.metric("num_requests_running") == 0


def test_abort_and_disconnect() -> None:
    flags = ("--itl-ms", "20", "--max-running", "1")
    with fast(*flags) as native:
        with open_named(native, "a") as first, open_named(native, "b") as second:
            wait_until(lambda: native.metric("num_requests_waiting") == 1)
            native.send("POST", "/abort_request", {"rid": "b"})
            [event] = read(second).events
            assert event["meta_info"]["finish_reason"]["type"] == "abort"
            assert first.recv(1, socket.MSG_PEEK) == b"H"
        wait_until(lambda: native.metric("num_requests_running") == 0)
        assert [e["finish"] for e in native.truth()] == ["disconnected", "abort"]


def open_named(started: Engine, name: str) -> socket.socket:
    connection = started.connect()
    value = asking("sglang", PROMPT, 10_000) | {"rid": name}
    connection.sendall(encode("POST", PATHS["sglang"], value))
    return connection


def test_a_long_prompt_in_pieces() -> None:
    prompt = list(range(100_000))
    body = encode("POST", PATHS["sglang"], asking("sglang", prompt, 3))
    with fast() as native, native.connect() as connection:
        sender = threading.Thread(target=send_in_pieces, args=(connection.sendall, body))
        sender.start()
        assert understand("sglang", read(connection)).ids == answer_ids(prompt, 3, 201_088)
        sender.join()
        assert native.truth()[0]["prompt_sum"] == sum(prompt)


def send_in_pieces(send: Callable[[bytes], None], data: bytes) -> None:
    for start in range(0, len(data), 9_999):
        send(data[start : start + 9_999])


def test_a_slow_reader_gets_everything() -> None:
    with fast("--chunk", "500") as native, native.connect() as connection:
        connection.sendall(encode("POST", "/generate", asking("sglang", PROMPT, 40_000)))
        wait_until(lambda: native.truth()[0]["finish"] == "length")
        assert understand("sglang", read(connection)).ids == answer_ids(PROMPT, 40_000, 201_088)


def test_replicas_keep_their_own_books() -> None:
    with run_emulator("--dialect", "vllm", replicas=3, native=True) as emulator:
        assert len(set(emulator.urls)) == 3
        for n, url in enumerate(emulator.urls):
            replica = Engine(emulator.process, {"ready": url})  # type: ignore[arg-type]
            for _ in range(n):
                replica.ask("vllm", [n], 2)
            assert [e["number"] for e in replica.truth()] == [*range(1, n + 1)]
        assert [entry["prompt_sum"] for entry in emulator.truth()] == [1, 2, 2]
        emulator.reset()
        assert emulator.truth() == []


@pytest.mark.parametrize("native", [True, False])
def test_run_emulator(native: bool) -> None:
    with run_emulator("--ttft-ms", "1", replicas=2, native=native) as emulator:
        assert (emulator.native, len(emulator.urls)) == (native, 2)
        process = emulator.process
    assert process.returncode == 0


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SetupError, match="apt-get install gcc"):
        build(SOURCE, tmp_path)
    with run_emulator() as emulator:
        assert not emulator.native


def test_builds_at_once_leave_one_program(tmp_path: Path) -> None:
    source = tmp_path / "small.c"
    source.write_text("int main(void) { return 7; }\n")
    found: list[Path] = []

    def make() -> None:
        found.append(build(source, tmp_path / "b"))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list((tmp_path / "b").iterdir()) == [found[0]]
    assert subprocess.run([found[0]]).returncode == 7


def test_what_does_not_compile_is_told(tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(SetupError, match="nothing"):
        build(source, tmp_path / "b")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_how_it_ends(number: signal.Signals | None) -> None:
    with fast("--ttft-ms", "60000") as native, native.start_asking("vllm", [1], 2) as connection:
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert native.process.stdin
        if number is None:
            native.process.stdin.close()
        else:
            native.process.send_signal(number)
        assert native.process.wait(10) == 0


@pytest.mark.parametrize(
    "flags",
    [("--fault", "close"), ("--split", "3"), ("--ping",), ("--chunk", "0"), ("--dialect", "x")],
)
def test_flags_that_it_does_not_know(flags: Sequence[str]) -> None:
    command = [sys.executable, "-m", "engine", "fast", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert flags[0] in done.stderr
