"""The sampler as a real process over real sockets: it brings what is there and survives the rest."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from telemetry.sample import ReplicaSample
from telemetry.sampler import Sampler, sample_engines
from tests.harness import emulator
from tests.telemetry.pages import SGLANG, VLLM

LIMIT_S = 10.0


def answer(body: str, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def chunked(body: str) -> bytes:
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    half = len(body) // 2
    chunks = "".join(f"{len(part):x}\r\n{part}\r\n" for part in (body[:half], body[half:]))
    return f"{head}{chunks}0\r\n\r\n".encode()


class Served:
    """A server that says `reply` to every request: nothing at all if it is empty."""

    def __init__(self, reply: bytes, listener: socket.socket) -> None:
        self.reply = reply
        self.url = "http://{}:{}".format(*listener.getsockname())
        self.connections = 0
        self.requests = 0

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer: socket.socket) -> None:
        with peer:
            while request := peer.recv(4096):
                assert request.startswith((b"GET /metrics HTTP/1.1\r\n", b"GET /v1/loads "))
                self.requests += 1
                peer.sendall(self.reply)


@contextmanager
def served(reply: bytes) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Served(reply, listener)
        thread = threading.Thread(target=server.accept, args=(listener,), daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(LIMIT_S)


def until(sampler: Sampler, enough: Callable[[list[ReplicaSample]], bool]) -> list[ReplicaSample]:
    found: list[ReplicaSample] = []
    deadline = time.monotonic() + LIMIT_S
    while not enough(found):
        assert time.monotonic() < deadline, found
        select.select([sampler], [], [], 1.0)
        found += sampler.read()
    return found


def test_an_engine_is_sampled_over_one_connection() -> None:
    before_ns = time.monotonic_ns()
    with served(chunked(VLLM)) as engine, sample_engines([engine.url], 0.02) as sampler:
        samples = until(sampler, lambda found: len(found) >= 5)
        assert {(s.replica, s.running, s.waiting) for s in samples} == {(0, 1021, 3)}
        instants = [sample.t_ns for sample in samples]
        assert instants == sorted(instants)
        assert before_ns < instants[0] and instants[-1] <= time.monotonic_ns()
        assert engine.connections == 1


def test_each_replica_by_its_place() -> None:
    with (
        served(answer(SGLANG)) as sglang,
        served(answer(VLLM)) as vllm,
        sample_engines([sglang.url, vllm.url], 0.02) as sampler,
    ):
        samples = until(sampler, lambda found: len({s.replica for s in found}) == 2)
    assert {(s.replica, s.running) for s in samples} == {(0, 70), (1, 1021)}


def test_the_emulator_is_sampled() -> None:
    with emulator() as engine, sample_engines([engine.url], 0.05) as sampler:
        sample = until(sampler, bool)[0]
    assert (sample.running, sample.waiting, sample.generation_tokens) == (0, 0, 0)
    assert sample.preemptions is None


def test_no_such_page_is_data_and_not_asked_for_again() -> None:
    absent = answer('{"detail":"Not Found"}', "404 Not Found")
    with (
        served(absent) as mute,
        served(answer(VLLM)) as vllm,
        sample_engines([mute.url, vllm.url], 0.02) as sampler,
    ):
        samples = until(sampler, lambda found: sum(s.replica == 1 for s in found) >= 5)
        assert [sample.exposed for sample in samples if sample.replica == 0] == [False]
        assert mute.requests == 1


def test_replicas_that_do_not_answer_hold_up_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = "http://{}:{}".format(*closed.getsockname())
    with (
        served(b"") as silent,
        served(b"200 what\r\n\r\n") as garbage,
        served(answer("", "500 Internal Server Error")) as broken,
        served(answer(VLLM)) as well,
    ):
        urls = [silent.url, garbage.url, broken.url, nobody, well.url]
        with sample_engines(urls, 0.05) as sampler:
            samples = until(sampler, lambda found: len(found) >= 30)
            assert {sample.replica for sample in samples} == {4}
            assert not sampler.ended
        assert silent.requests >= 2  # given up after a second, asked again
        assert broken.connections == well.connections == 1


def test_a_replica_that_comes_back_is_sampled_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with sample_engines(["http://{}:{}".format(*address)], 0.05) as sampler:
        time.sleep(0.3)
        assert sampler.read() == []
        with socket.create_server(address) as listener:
            server = Served(answer(VLLM), listener)
            threading.Thread(target=server.accept, args=(listener,), daemon=True).start()
            assert until(sampler, bool)[0].running == 1021
            listener.shutdown(socket.SHUT_RDWR)


def test_the_samplers_death_is_silence() -> None:
    with served(answer(VLLM)) as engine, sample_engines([engine.url], 0.02) as sampler:
        until(sampler, bool)
        os.kill(sampler.pid, signal.SIGKILL)
        until(sampler, lambda _: sampler.ended)
        assert sampler.read() == []


def test_it_ends_with_its_input_and_not_by_ctrl_c() -> None:
    with served(answer(VLLM)) as engine:
        sampler = Sampler([engine.url], 0.02)
        until(sampler, bool)
        os.kill(sampler.pid, signal.SIGINT)
        until(sampler, lambda found: len(found) >= 5)
        sampler.close()
        sampler.close()
        with pytest.raises(ProcessLookupError):
            os.kill(sampler.pid, 0)
    assert sampler.ended and sampler.read() == []
