"""Replicas as real processes: started, answering, dead, slow, killed; and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.fleet import Fleet
from server.options import parse_args
from server.ready import generate
from tests.server.servers import server, stopped_at_once, wait_for


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_two_replicas_answer_and_end_with_ctrl_c(tmp_path: Path, engine: str) -> None:
    with server(tmp_path, "slow", "--dp", "2", "--", "--seed", "1", engine=engine) as started:
        urls = started.urls().split(",")
        assert urls == [f"http://127.0.0.1:{started.port + n}" for n in (0, 1)]
        assert started.servers_file.read_text().split() == urls
        for n in (0, 1):
            generate(engine, "127.0.0.1", started.port + n, 10)
        assert all(
            json.loads(started.log(n).split("\n")[0][5:])[-2:] == ["--seed", "1"] for n in (0, 1)
        )
        assert len(started.left()) == 2
        assert started.end(signal.SIGINT) == 0
        assert started.left() == []
        assert not started.servers_file.exists() and "removed logs/servers.txt" in started.said


def test_a_replica_that_dies_while_starting_ends_all_at_once(tmp_path: Path) -> None:
    with server(tmp_path, "half-dies", "--dp", "2") as started:
        assert started.end() == 4
        assert "REPLICA 1 DIED with exit code 7" in started.said
        assert "loading shard 29" in started.said and "loading shard 9\n" not in started.said
        assert started.urls() == "" and not started.servers_file.exists()
        assert started.left() == []


def test_a_slow_one_is_waited_for_until_the_time_out(tmp_path: Path) -> None:
    with server(tmp_path, "silent", "--timeout", "1.5") as started:
        assert started.end() == 4
        assert "not ready within --timeout 1.5 s" in started.said
        assert "loading shard 29" in started.said
        assert started.left() == []


def test_one_that_answers_and_refuses_is_not_waited_for(tmp_path: Path) -> None:
    with server(tmp_path, "foreign") as started:
        assert started.end() == 4
        assert "refuses: HTTP 404 to /v1/completions" in started.said


def test_a_later_death_is_said_and_the_others_stay(tmp_path: Path) -> None:
    with server(tmp_path, "stubborn", "--dp", "2", "--grace", "0.5") as started:
        urls = started.urls().split(",")
        assert len(started.left()) == 4
        pid = json.loads(started.log(0).split("\n")[31])["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "1 of 2 replicas left" in started.said)
        wait_for(lambda: len(started.left()) == 2)  # its worker has gone with it
        assert "REPLICA 0 DIED by SIGKILL" in started.said
        assert started.servers_file.read_text().split() == urls
        generate("vllm", "127.0.0.1", started.port + 1, 10)
        assert started.end(signal.SIGTERM) == 4
        assert started.left() == []


def test_it_ends_when_the_last_replica_has_died(tmp_path: Path) -> None:
    with server(tmp_path, "ok") as started:
        assert started.urls()
        os.kill(json.loads(started.log(0).split("\n")[31])["pid"], signal.SIGKILL)
        assert started.end() == 4
        assert "all replicas have died" in started.said


def test_ctrl_c_before_all_are_ready_leaves_nothing(tmp_path: Path) -> None:
    with server(tmp_path, "silent", "--dp", "2") as started:
        wait_for(lambda: len(started.left()) == 2)
        assert started.end(signal.SIGINT) == 130
        assert started.left() == []


def test_a_port_in_use_is_found_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with server(tmp_path, "ok", "--port", str(port)) as started:
            assert started.end() == 2
            assert f"port {port}" in started.said and "--port" in started.said
            assert not (tmp_path / "logs").exists()


def test_an_earlier_log_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "replica-0.log").write_text("of yesterday\n")
    with server(tmp_path, "ok") as started:
        assert started.urls()
        logs = {file.read_text() for file in (tmp_path / "logs").glob("replica-0.2*.log")}
        assert logs == {"of yesterday\n"}


FLEET = """
import sys
from types import SimpleNamespace
from server.fleet import Fleet, Stopped
from server.options import parse_args
with Fleet(SimpleNamespace(replicas=()), parse_args([]), {}) as fleet:
    print("ready", flush=True)
    try:
        while True:
            fleet._pause(0.01)
    except Stopped:
        sys.stdin.read()
        print(fleet._hurry)
"""


def test_slurms_two_signals_at_once_neither_hang_nor_hurry() -> None:
    stopped_at_once(FLEET, "False")


def test_only_a_second_ctrl_c_hurries() -> None:
    plan: Any = SimpleNamespace(replicas=())
    for numbers, hurries in {
        (signal.SIGINT,): False,
        (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP): False,
        (signal.SIGINT, signal.SIGTERM): False,
        (signal.SIGINT, signal.SIGINT): True,
        (signal.SIGTERM, signal.SIGINT): True,
        (signal.SIGINT, signal.SIGINT, signal.SIGTERM): True,
    }.items():
        fleet = Fleet(plan, parse_args([]), {})
        for number in numbers:
            fleet._on_signal(number, None)
        assert fleet._hurry == hurries, numbers
