"""What a machine allows against what a run opens, at and around each limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.preflight import (
    RESERVED_FILES,
    STREAM_BYTES,
    Connections,
    check,
    offline_connections,
    read_limits,
    require_room,
    room_per_replica,
    timed_connections,
)
from core.config import RunConfig
from core.errors import SetupError
from core.limits import Limits
from options import parse_options

NOTHING = Limits(None, None, None, None, None)
OFFLINE = Connections(8192, 2, 8, certain=True, local=True)
TIMED = replace(OFFLINE, certain=False)


def config(*flags: str, mode: str = "offline") -> RunConfig:
    return parse_options(["--mode", mode, "--input-file", "x.parquet", *flags])[0]


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert check(OFFLINE, NOTHING) == ()


ENOUGH = {
    "files": 4096 + RESERVED_FILES,
    "ports": 1024,
    "somaxconn": 1024,
    "tracked_left": 8192,
    "memory": 2 * 8192 * STREAM_BYTES,
}


@pytest.mark.parametrize(
    ("name", "offline", "timed"),
    [
        ("files", ["error"], ["warning"]),
        ("ports", ["error"], ["warning"]),
        ("somaxconn", ["warning"], []),
        ("tracked_left", ["warning"], ["warning"]),
        ("memory", ["warning"], ["warning"]),
    ],
)
def test_each_limit(name: str, offline: list[str], timed: list[str]) -> None:
    limits = Limits(**ENOUGH)
    assert check(OFFLINE, limits) == check(TIMED, limits) == ()
    less = replace(limits, **{name: ENOUGH[name] - 1})
    assert [finding.level for finding in check(OFFLINE, less)] == offline
    assert [finding.level for finding in check(TIMED, less)] == timed


def test_errors_name_value_and_remedy() -> None:
    findings = check(OFFLINE, replace(NOTHING, files=1024, memory=1))
    with pytest.raises(
        SetupError,
        match=r"8,192 connections need 4,128 in each worker, ulimit -Hn is 1,024: raise it to 4128, "
        r"or use --num-workers 9",
    ):
        require_room(findings)
    assert require_room(findings[1:]) == findings[1:]
    assert "0.5 GB" in findings[1].sentence


def test_the_proposed_number_of_workers_is_enough() -> None:
    limits = replace(NOTHING, files=1024)
    assert check(replace(OFFLINE, n_workers=8), limits)
    assert not check(replace(OFFLINE, n_workers=9), limits)


def test_a_distant_servers_backlog_is_its_own_matter() -> None:
    assert check(replace(OFFLINE, local=False), replace(NOTHING, somaxconn=1)) == ()


def test_offline_opens_its_concurrency() -> None:
    ips = ["10.0.0.1", "10.0.0.2"]
    assert offline_connections(config(), 1024, 3, ips, 9999) == Connections(2048, 3, 2, True)
    assert offline_connections(config(), 1024, 3, ips, 700) == Connections(700, 3, 2, True)
    seven = config("--max-concurrency", "7")
    limited = offline_connections(seven, 1024, 3, ["127.0.0.1", "::1"], 9999)
    assert limited == Connections(7, 3, 2, True, local=True)
    assert (limited.of_worker, limited.of_replica) == (3, 4)


def test_server_opens_as_many_as_arrive_during_an_answer() -> None:
    def need(qps: float, *flags: str) -> int:
        timed = config(*flags, mode="server")
        limits = (3_000_000_000, 80_000_000)
        return timed_connections(timed, qps, 1278, *limits, 1, ["10.0.0.1"]).total

    assert need(800.0) == 84_192  # 3 s + 1278 x 80 ms = 105.24 s
    assert need(800.0, "--max-concurrency", "5000") == 5000
    assert need(0.001) == 1


def test_room_for_pacing() -> None:
    assert room_per_replica(NOTHING, 1, 8) is None
    assert room_per_replica(replace(NOTHING, files=20_032), 2, 8) == 5000
    assert room_per_replica(replace(NOTHING, files=20_032, ports=900), 2, 8) == 900
    assert room_per_replica(replace(NOTHING, files=10), 2, 8) == 1


def test_this_machine_can_be_read() -> None:
    found = read_limits()
    assert found.ports is not None and 1 <= found.ports <= 65_536
    assert found.memory is not None and found.memory > 1 << 20
    assert found.somaxconn is not None
