"""The clock keeps time, and its truth log says what it did."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import ExitStack
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine.clock import answer_ids
from tests.engine.client import PATHS, asking, clock, encode, read, understand, wait_until

MS = 1_000_000
PROMPT = [2, 7, 1, 8]
PROMPTS = st.lists(st.integers(0, 201_087), min_size=1, max_size=50)


@given(PROMPTS, PROMPTS, st.integers(2, 201_088))
def test_ids_are_a_function_of_the_prompt(one: list[int], two: list[int], vocab: int) -> None:
    ids = answer_ids(one, 20, vocab)
    assert all(0 <= i < vocab for i in ids)
    assert answer_ids(list(one), 5, vocab) == ids[:5]
    assert answer_ids([1, 2], 9, 1000) != answer_ids([2, 1], 9, 1000)
    if vocab == 201_088 and one != two:
        assert answer_ids(two, 20, vocab) != ids


def test_tokens_are_never_early_and_lateness_does_not_add_up() -> None:
    with clock("--ttft-ms", "40", "--itl-ms", "1") as engine:
        late_ns = []
        for _ in range(4):  # the machine may be busy once, not four times
            engine.ask("vllm", PROMPT, 300)
            truth = engine.truth()[-1]
            assert truth["first_ns"] - truth["arrived_ns"] >= 40 * MS
            late_ns.append(truth["done_ns"] - truth["arrived_ns"] - (40 + 299) * MS)
            assert late_ns[-1] >= 0
            if late_ns[-1] < 100 * MS:
                break
        assert min(late_ns) < 100 * MS  # a drifting clock would be 150 ms late at the least


def test_no_token_is_early_in_a_crowd() -> None:
    with clock("--ttft-ms", "20.5", "--keep-alive", "0") as engine, ExitStack() as stack:
        connections = [engine.start_asking("vllm", PROMPT, 1) for _ in range(60)]
        for connection in connections:
            read(stack.enter_context(connection))
        ttft_ns = [entry["first_ns"] - entry["arrived_ns"] for entry in engine.truth()]
        assert min(ttft_ns) >= 20.5 * MS


def test_a_body_comes_when_its_last_token_is_due() -> None:
    with clock("--ttft-ms", "50", "--itl-ms", "10") as engine:
        engine.ask("sglang", PROMPT, 6, stream=False)
        [truth] = engine.truth()
        assert truth["done_ns"] - truth["arrived_ns"] >= 100 * MS


def test_the_head_comes_before_the_first_token() -> None:
    with clock("--ttft-ms", "400") as engine, engine.start_asking("vllm", PROMPT, 2) as connection:
        head = connection.recv(65536)
        assert engine.truth()[0]["first_ns"] == 0
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert head.endswith(b"\r\n\r\n")


def test_truth() -> None:
    with clock("--chunk", "4") as engine:
        before = engine.ready["pid"]
        engine.ask("vllm", [5, 6], 10)
        engine.ask("sglang", [7], 3, stream=False)
        vllm, sglang = engine.truth()
        assert before == engine.process.pid
        assert vllm["arrived_ns"] < vllm["first_ns"] < vllm["done_ns"] < sglang["arrived_ns"]
        expected = {"number": 1, "path": PATHS["vllm"], "prompt_tokens": 2, "prompt_sum": 11}
        expected |= {"n_tokens": 10, "n_events": 4, "fault": None, "finish": "length"}
        assert {key: vllm[key] for key in expected} == expected
        assert (sglang["path"], sglang["n_tokens"], sglang["prompt_sum"]) == ("/generate", 3, 7)
        assert engine.send("POST", "/truth/reset").status == 200
        assert engine.truth() == []


def test_truth_is_written_at_exit(tmp_path: Path) -> None:
    file = tmp_path / "truth.jsonl"
    with clock("--truth", str(file)) as engine:
        engine.ask("vllm", PROMPT, 2)
        truth = engine.truth()
    assert [json.loads(line) for line in file.read_text().splitlines()] == truth


def test_the_first_token_comes_alone_and_then_so_many_at_a_time() -> None:
    with clock("--chunk", "4") as engine:
        *events, _ = engine.ask("vllm", PROMPT, 10).events
        assert [len(event["choices"][0]["token_ids"]) for event in events] == [1, 4, 4, 1]
        ids = understand("sglang", engine.ask("sglang", PROMPT, 10)).ids
        assert ids == answer_ids(PROMPT, 10, 201_088)


def test_it_stops_when_it_likes() -> None:
    with clock("--osl", "5") as engine:
        for asked, more, n, finish in [
            (9, {}, 5, "stop"),
            (5, {}, 5, "length"),
            (3, {}, 3, "length"),
            (9, {"ignore_eos": True}, 9, "length"),
        ]:
            for dialect in PATHS:
                answer = understand(dialect, engine.ask(dialect, PROMPT, asked, **more))
                assert (len(answer.ids), answer.finish) == (n, finish)


def test_no_more_run_than_may() -> None:
    with clock("--max-running", "2", "--ttft-ms", "30") as engine:
        connections = [engine.start_asking("vllm", PROMPT, 2) for _ in range(6)]
        for connection in connections:
            with connection:
                assert understand("vllm", read(connection)).finish == "length"
        truth = engine.truth()
        assert max(e["done_ns"] for e in truth) - truth[0]["arrived_ns"] >= 3 * 30 * MS
        for entry in truth:
            ended = sum(other["done_ns"] <= entry["first_ns"] - 30 * MS for other in truth)
            begun = sum(other["first_ns"] <= entry["first_ns"] for other in truth)
            assert begun - ended <= 2 + 1  # two run; one may have ended in this very instant


def data_segments(connection: socket.socket) -> int:
    """Segments with data that the kernel has received, from struct tcp_info."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    return int(struct.unpack_from("I", info, 152)[0])


def test_split_writes_and_pings() -> None:
    with clock("--split", "7", "--ping") as engine:
        for dialect in PATHS:
            with engine.start_asking(dialect, PROMPT, 6) as connection:
                reply = read(connection)
                # Whole writes would be twelve; the kernel may merge pieces that pile up.
                assert data_segments(connection) > 18
            assert understand(dialect, reply).ids == answer_ids(PROMPT, 6, 201_088)
            assert reply.chunks.count(b": ping\n\n") == 5


def test_a_connection_is_kept_and_then_closed_when_idle() -> None:
    with clock("--keep-alive", "0.3") as engine, engine.connect() as connection:
        for n in (2, 3):
            connection.sendall(encode("POST", "/generate", asking("sglang", PROMPT, n)))
            assert len(understand("sglang", read(connection)).ids) == n
        connection.settimeout(10)
        assert connection.recv(1) == b""


def test_a_connection_is_closed_on_request() -> None:
    with clock("--keep-alive", "0") as engine, engine.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert read(connection).status == 200
        assert connection.recv(1) == b""


def test_requests_in_pieces_and_requests_in_pieces_of_nonsense() -> None:
    with clock() as engine, engine.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in encode("POST", "/generate", asking("sglang", PROMPT, 2)):
            connection.sendall(bytes([byte]))
        assert len(understand("sglang", read(connection)).ids) == 2
        connection.sendall(b"nonsense\r\n\r\n")
        assert read(connection).status == 400
        assert connection.recv(1) == b""


def test_a_client_that_leaves_frees_its_place() -> None:
    with clock("--itl-ms", "20", "--max-running", "1") as engine:
        with engine.start_asking("vllm", PROMPT, 10_000) as connection:
            connection.recv(65536)
            connection.recv(65536)
        wait_until(lambda: engine.truth()[0]["finish"] == "disconnected")
        assert engine.metric("num_requests_running") == 0
        n_tokens = engine.truth()[0]["n_tokens"]
        assert understand("vllm", engine.ask("vllm", PROMPT, 3)).finish == "length"
        assert engine.truth()[0]["n_tokens"] == n_tokens


def test_a_slow_reader_gets_everything() -> None:
    """Eleven megabytes of events, more than the kernel holds, before the first is read."""
    with clock("--chunk", "500") as engine, engine.connect() as connection:
        connection.sendall(encode("POST", "/generate", asking("sglang", PROMPT, 40_000)))
        wait_until(lambda: engine.truth()[0]["finish"] == "length")
        assert understand("sglang", read(connection)).ids == answer_ids(PROMPT, 40_000, 201_088)
