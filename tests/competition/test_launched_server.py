"""The competition's server really started, with a fake engine: its log, its end, nothing left."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from server.ready import generate
from tests.competition.launched import SGLANG, launched


def test_it_answers_logs_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    with launched(tmp_path, "slow", "--", "-cc.x=1") as found:
        found.until("ready after")
        generate("vllm", "127.0.0.1", found.server.port, 10)
        assert len(found.server.left()) == 1
        assert found.end(signal.SIGINT) == 0
        assert found.server.left() == []
    log = found.log.read_text()
    found.log.unlink()
    assert re.fullmatch(r"/tmp/vllm-server-\w{6}\.log", str(found.log))
    assert "log: " in found.said[0] and "loading shard 29" in log
    assert found.out.read_text() == log  # the terminal got all of it
    assert "config 0o40700 compilation-config" in log and '"x":1' in log
    path = re.search(r'"--config", "([^"]+)"', log)
    assert path and not Path(path[1]).parent.exists()


def test_sglang_answers(tmp_path: Path) -> None:
    log = tmp_path / "own.log"
    log.write_text("of an earlier start")
    with launched(tmp_path, "ok", script=SGLANG, SERVER_LOG=str(log)) as found:
        found.until("ready after")
        generate("sglang", "127.0.0.1", found.server.port, 10)
        assert found.end(signal.SIGTERM) == 0
    assert "loading shard 29" in log.read_text() and "earlier" not in log.read_text()
    assert len(list(tmp_path.glob("own.*.log"))) == 1


def test_a_dead_engine_ends_it_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "own.log"
    with launched(tmp_path, "half-dies", odd=1, SERVER_LOG=str(log)) as found:
        assert found.end() == 4
    said = "".join(found.said)
    assert "DIED with exit code 7" in said and f"the end of {log}" in said
    assert "loading shard 29" in said and found.server.left() == []


def test_one_that_dies_later_ends_it_too(tmp_path: Path) -> None:
    log = tmp_path / "own.log"
    with launched(tmp_path, "stubborn", "--grace", "0.2", SERVER_LOG=str(log)) as found:
        found.until("ready after")
        engine = next(line for line in log.read_text().splitlines() if '"pid"' in line)
        assert len(found.server.left()) == 2
        os.kill(json.loads(engine)["pid"], signal.SIGKILL)
        assert found.end() == 4
        assert found.server.left() == []  # its worker has gone with it
    assert "DIED by SIGKILL" in "".join(found.said)


def test_ctrl_c_while_it_loads_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "own.log"
    with launched(tmp_path, "silent", SERVER_LOG=str(log)) as found:
        found.until("replica 0")
        assert found.end(signal.SIGINT) == 130
        assert found.server.left() == []


def test_a_terminal_that_is_gone_does_not_end_the_server(tmp_path: Path) -> None:
    log = tmp_path / "own.log"
    read, write = os.pipe()
    os.close(read)
    with launched(tmp_path, "slow", stdout=write, SERVER_LOG=str(log)) as found:
        os.close(write)
        found.until("ready after")
        generate("vllm", "127.0.0.1", found.server.port, 10)
        assert found.end(signal.SIGTERM) == 0
    assert "loading shard 29" in log.read_text() and "Traceback" not in "".join(found.said)


def test_a_build_without_tags_is_taken_for_a_new_one(tmp_path: Path) -> None:
    log = tmp_path / "own.log"
    version = "0.1.dev1+g1f5b378"
    with launched(tmp_path, "ok", SERVER_LOG=str(log), FAKE_VERSION=version) as found:
        found.until("ready after")
        assert "taken for a new one" in found.said[0]
        assert "--no-enable-log-requests" in log.read_text()
        assert found.end(signal.SIGTERM) == 0
