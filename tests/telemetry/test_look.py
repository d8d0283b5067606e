"""One look at all replicas, and waiting for engines to let go of what was theirs."""

from __future__ import annotations

import socket
import time

import pytest

from telemetry import look as module
from telemetry.look import left_open, look, open_requests
from telemetry.sample import ReplicaSample
from tests.engine.client import clock, wait_until
from tests.telemetry.pages import SGLANG, VLLM
from tests.telemetry.test_sampler import answer, served


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(module, "STEP_S", 0.02)


def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return "http://{}:{}".format(*closed.getsockname())


def test_every_replica_that_answers_gives_one_sample() -> None:
    before_ns = time.monotonic_ns()
    with (
        served(answer(VLLM)) as vllm,
        served(b"") as silent,
        served(answer("{}", "404 Not Found")) as mute,
        served(answer("", "503 Service Unavailable")) as broken,
        served(answer(SGLANG)) as sglang,
    ):
        urls = [nobody(), vllm.url, silent.url, mute.url, broken.url, sglang.url]
        found = look(urls)
    assert [sample.replica for sample in found] == [1, 3, 5]
    assert (found[0].running, found[2].running) == (1021, 70)
    assert found[1] == ReplicaSample(3, found[1].t_ns)
    assert all(before_ns < sample.t_ns <= time.monotonic_ns() for sample in found)


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_open_requests_are_counted_and_go_when_their_client_does(dialect: str) -> None:
    with clock("--dialect", dialect, "--itl-ms", "60000", "--max-running", "1") as engine:
        url = engine.ready["ready"]
        assert open_requests(url) == 0 and left_open([url]) == {}
        with engine.start_asking(dialect, [1, 2, 3], 9), engine.start_asking(dialect, [1], 9):
            wait_until(lambda: open_requests(url) == 2)
            began = time.monotonic()
            assert left_open([url, nobody()], 0.2) == {url: 2}
            assert 0.2 <= time.monotonic() - began < 2
        assert left_open([url]) == {}


def test_who_does_not_say_is_not_waited_for() -> None:
    with served(answer("{}", "404 Not Found")) as mute:
        assert open_requests(mute.url) is None
        assert left_open([mute.url, nobody()], 60) == {}
