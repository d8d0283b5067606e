"""--min-replicas: a node's start goes on without a replica that dies, refuses, hangs or has no port."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from server import fleet
from server.fleet import Fleet
from server.options import parse_args
from server.process import Process
from server.ready import generate
from server.starting import Starting
from tests.server.servers import Server, free_ports, server

ENOUGH = ("--dp", "2", "--min-replicas", "1")


def serves_without_replica_1(started: Server) -> None:
    """To its end, which is a good one: what was announced has lived."""
    url = f"http://127.0.0.1:{started.port}"
    assert started.urls() == url, started.said
    assert started.servers_file.read_text().split() == [url]
    assert len(started.left()) == 1, "processes of the one that was left out live"
    generate("vllm", "127.0.0.1", started.port, 10)
    assert "1 of 2 ready." in started.said
    assert started.end(signal.SIGTERM) == 0
    assert started.left() == []


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("half-dies", "REPLICA 1 DIED with exit code 7"),
        ("half-foreign", "replica 1 refuses: HTTP 404 to /v1/completions"),
        ("half-stuck", "replica 1 is not ready within --patience 0.2 s of 1 others"),
    ],
)
def test_one_is_left_out_with_the_end_of_its_log(tmp_path: Path, mode: str, why: str) -> None:
    with server(tmp_path, mode, *ENOUGH, "--patience", "0.2") as started:
        serves_without_replica_1(started)
        assert f"WARNING: LEFT OUT, 1 others stay: {why}" in started.said
        assert "\n    loading shard 29\n" in started.said


def test_a_port_in_use_costs_its_replica_only(tmp_path: Path) -> None:
    port = free_ports()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 1))
        other.listen()
        with server(tmp_path, "ok", *ENOUGH, "--port", str(port)) as started:
            started.port = port
            serves_without_replica_1(started)
            said = f"LEFT OUT: port {port + 1} of 127.0.0.1 for replica 1: Address"
            assert said in started.said


def test_too_few(tmp_path: Path) -> None:
    with server(tmp_path, "half-dies", "--dp", "2", "--min-replicas", "2") as started:
        assert started.end() == 4
        assert "too few are left for --min-replicas 2: REPLICA 1 DIED" in started.said
        assert started.urls() == "" and started.left() == []


def test_more_than_there_are(tmp_path: Path) -> None:
    with server(tmp_path, "ok", "--min-replicas", "2") as started:
        assert started.end() == 2
        assert "--min-replicas 2: 1 are to be started" in started.said


class Asked:
    """Instead of a thread that asks."""

    ready, refused, heard, wanted = False, "", "", True

    def __init__(self, *_: object) -> None: ...

    def start(self) -> None: ...


class Played:
    """Instead of a started replica."""

    def __init__(self, index: int) -> None:
        self.replica = self
        self.index, self.url, self.log = index, "http://h:1", f"replica-{index}.log"
        self.died: int | None = None
        self.signals: list[int] = []

    def code(self) -> int | None:
        return self.died

    def tail(self, count: int) -> list[str]:
        return []

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def ended(self) -> bool:
        return False


@pytest.fixture
def _unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.starting.Asking", Asked)


def starting(played: list[Played], *flags: str) -> tuple[Starting, list[Any]]:
    options = parse_args([*flags, "--min-replicas", "1"])
    found = Starting("vllm", cast("list[Process]", played), 1, options)
    return found, list(found._asking.values())


@pytest.mark.usefixtures("_unasked")
def test_patience_never_outlasts_the_time_out() -> None:
    found, asked = starting([Played(0), Played(1)], "--timeout", "0", "--patience", "600")
    asked[0].ready = True
    ((process, why),) = found.lost()
    assert process.replica.index == 1 and "not ready within --timeout 0 s" in why


@pytest.mark.usefixtures("_unasked")
def test_patience_counts_while_enough_are_ready() -> None:
    played = [Played(0), Played(1), Played(2)]
    found, asked = starting(played, "--patience", "0")
    assert list(found.lost()) == []
    asked[0].ready = True
    played[0].died = 1
    first, *_ = found.lost()
    assert first[0].replica.index == 0 and "REPLICA 0 DIED" in first[1]
    found.drop(first[0])
    assert asked[0].wanted is False
    assert list(found.lost()) == [], "nobody is ready any more: patience has to begin anew"


def test_what_kill_does_not_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fleet, "KILL_S", -1.0)
    plan: Any = type("Plan", (), {"replicas": ()})
    Fleet(plan, parse_args([]), {})._kill(cast("Process", Played(3)))
    assert "replica 3 has processes that KILL does not end" in capsys.readouterr().err
