"""The running leaderboard, called as the competition's own program calls it: plain HTTP and JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from competition.leaderboard.entry import from_values
from competition.leaderboard.store import Store
from competition.leaderboard.tokens import make_token
from competition.profile import DEFAULT, Lengths, load_profile
from tests.competition.board import (
    LENGTHS,
    ROOT,
    SECOND_STAGE,
    board,
    call,
    document,
    fetch,
    values,
)

PAIR = "/isl1024osl1024"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with board(tmp_path_factory.mktemp("board"), "--rate", "1000") as address:
        yield address


def listed(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(fetch(f"{url}/results.json")[1])
    return found


def test_the_originals_14_values_are_ranked_and_a_repetition_recognised(url: str) -> None:
    ours = values("A \"team\" of 'two' & Çelik 東京", team_tput=801.25)
    event, (answer,) = call(url + PAIR, "submit_results", ours)
    assert event == "complete"
    assert (answer["accepted"], answer["duplicate"]) == (True, False)
    assert answer["board"] == url + PAIR
    assert 1 <= answer["rank"] <= answer["of"]
    assert call(url + PAIR, "submit_results", ours)[1][0]["duplicate"] is True
    (row,) = [row for row in listed(url) if row["tput_per_gpu"] == 801.25]
    assert (row["team"], row["isl"], row["osl"], row["concurrency"]) == (ours[0], 1024, 1024, 8)


def test_the_path_says_which_pair_it_is(url: str) -> None:
    bare = values("Pairs", lengths=Lengths(8192, 1024), concurrency=4, team_tput=1801.0)
    assert call(f"{url}/isl8192osl1024", "submit_results", bare)[0] == "complete"
    (row,) = [row for row in listed(url) if row["team"] == "Pairs"]
    assert (row["isl"], row["osl"]) == (8192, 1024)
    event, told = call(url, "submit_results", bare)
    assert event == "error"
    assert f"{url}/isl8192osl1024" in told["error"]


def test_a_document_brings_engine_and_date(url: str) -> None:
    found = document(team_tput=651.0, lengths=Lengths(1024, 8192))
    event, (answer,) = call(url, "submit_document", ["Documents", json.dumps(found)])
    assert (event, answer["board"]) == ("complete", f"{url}/isl1024osl8192")
    (row,) = [row for row in listed(url) if row["team"] == "Documents"]
    assert (row["engine"], row["engine_version"], row["tp"]) == ("vllm", "0.11.0", 8)
    assert row["date"] == "2026-01-05T10:00:00+00:00"
    event, told = call(url + PAIR, "submit_document", ["Documents", json.dumps(found)])
    assert (event, "1024/1024" in told["error"]) == ("error", True)


def with_value(place: int, value: object) -> list[Any]:
    changed = values("Refused")
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (["Refused"], "1 values"),
        ([*values("Refused"), 1], "15 values"),
        (with_value(0, ""), "team name"),
        (with_value(0, 7), "team name"),
        (with_value(0, "a\x00b"), "control"),
        (with_value(0, "x" * 100_000), "64"),
        (with_value(1, "8"), "concurrency"),
        (with_value(1, 8.5), "concurrency"),
        (with_value(1, 32), "concurrency: 32; ISL/OSL 1024/1024 is measured at 4, 8, 16"),
        (with_value(2, float("nan")), "median_e2e_ms"),
        (with_value(2, float("inf")), "median_e2e_ms"),
        (with_value(3, None), "tput_per_gpu"),
        (with_value(3, [1]), "tput_per_gpu"),
        (with_value(3, {"a": 1}), "tput_per_gpu"),
        (with_value(3, 1e300), "tput_per_gpu"),
        (with_value(7, 9.0), "tput_ratio"),
        (with_value(13, 1000.0), "word_perplexity"),
    ],
)
def test_what_is_wrong_is_refused_with_a_sentence(url: str, data: list[Any], said: str) -> None:
    event, told = call(url + PAIR, "submit_results", data)
    assert event == "error"
    assert said in told["error"]
    assert "Refused" not in {row["team"] for row in listed(url)}


def test_a_body_that_is_too_large_is_not_read(url: str) -> None:
    with closing(HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
        connection.putrequest("POST", "/gradio_api/call/submit_document")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(2**21 + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_two_at_once_get_one_row(url: str) -> None:
    answers: list[Any] = []

    def submit() -> None:
        answers.append(call(url + PAIR, "submit_results", values("Twice", team_tput=777.0)))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer[1][0]["duplicate"] for answer in answers) == [False, True, True, True]


def test_downloads_and_nothing_else(url: str, tmp_path: Path) -> None:
    call(url + PAIR, "submit_results", values("=cmd()", team_tput=888.0))
    status, text = fetch(f"{url}/results.csv")
    assert (status, ",'=cmd()," in text) == (200, True)
    for path in (ROOT / "pyproject.toml", tmp_path, ROOT / "leaderboard.sqlite3"):
        assert fetch(f"{url}/gradio_api/file={path}")[0] in (403, 404)
    status, page = fetch(url + PAIR)
    assert (status, "googleapis" in page, "ISL/OSL 1024/1024" in page) == (200, False, True)


@dataclass(frozen=True)
class Strict:
    """A board with a limit of two, behind a proxy; and the token of its Team T."""

    url: str
    token: str

    def submit(
        self, team: str, tput: float, address: str, token: str | None = None
    ) -> tuple[str, Any]:
        headers = {
            "X-Forwarded-For": address,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "board.example",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return call(self.url, "submit_results", values(team, team_tput=tput), headers)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    folder = tmp_path_factory.mktemp("strict")
    token = make_token(folder / "tokens.json", "Team T")
    tokens = ("--tokens", str(folder / "tokens.json"))
    with board(folder, *tokens, "--rate", "2", "--behind-proxy") as address:
        yield Strict(address + PAIR, token)


def test_a_team_with_a_token_needs_it(strict: Strict) -> None:
    for address, token in (("10.1.0.1", None), ("10.1.0.2", "wrong")):
        event, told = strict.submit("team t", 501.0, address, token)
        assert (event, "token" in told["error"]) == ("error", True)
    assert strict.submit("Team T", 501.0, "10.1.0.3", strict.token)[0] == "complete"
    assert strict.submit("Team U", 502.0, "10.1.0.4")[0] == "complete"


def test_the_limit_counts_the_address_that_the_proxy_saw_and_the_team(strict: Strict) -> None:
    answer = strict.submit("A", 501.0, "10.0.0.1")[1][0]
    assert answer["board"] == f"https://board.example{PAIR}"
    # What stands before the last address may be invented.
    assert strict.submit("B", 502.0, "9.9.9.9, 10.0.0.1")[0] == "complete"
    event, told = strict.submit("C", 503.0, "8.8.8.8, 10.0.0.1")
    assert (event, "in a minute" in told["error"]) == ("error", True)
    assert strict.submit("A", 504.0, "10.0.0.2")[0] == "complete"
    event, told = strict.submit("A", 505.0, "10.0.0.3")
    assert (event, "in a minute" in told["error"]) == ("error", True)


def test_the_second_stage_takes_twelve_values_and_no_proxy_is_believed(tmp_path: Path) -> None:
    with board(tmp_path, "--profile", SECOND_STAGE, "--rate", "1") as url:
        bare = values("Team", SECOND_STAGE, lengths=Lengths(8192, 1024), concurrency=32)
        event, (answer,) = call(f"{url}/isl8192osl1024", "submit_results", bare)
        assert (event, answer["rank"]) == ("complete", 1)
        assert listed(url)[0]["gsm8k_metric"] == 0.9
        forwarded = {"X-Forwarded-For": "10.0.0.1"}
        event, told = call(f"{url}/isl8192osl1024", "submit_results", bare, forwarded)
        assert (event, "in a minute" in told["error"]) == ("error", True)


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m competition.leaderboard`, with relative paths of that folder."""
    return subprocess.run(
        [sys.executable, "-m", "competition.leaderboard", *arguments],
        **{"cwd": folder, "env": os.environ | {"PYTHONPATH": str(ROOT)}},
        **{"capture_output": True, "text": True, "timeout": 60},
    )


def test_the_commands_beside_serve(tmp_path: Path) -> None:
    made = command("token", "Team A", "--tokens", "tokens.json", folder=tmp_path)
    assert len(made.stdout.strip()) > 30
    assert made.stdout.strip() not in (tmp_path / "tokens.json").read_text()
    nothing = command("export", "out.json", "--database", "missing.sqlite3", folder=tmp_path)
    assert (nothing.returncode, "missing.sqlite3" in nothing.stderr) == (2, True)
    entry = from_values(values("Team A"), load_profile(DEFAULT), LENGTHS, datetime.now(UTC))
    Store(tmp_path / "board.sqlite3").add(entry, datetime.now(UTC))
    done = command("export", "out.json", "--database", "board.sqlite3", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out.json").read_text())[0]["team"] == "Team A"


def test_the_assembled_space_runs_on_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "a space"
    assert command("space", str(folder), folder=tmp_path).returncode == 0
    again = command("space", str(folder), folder=tmp_path)
    assert (again.returncode, "not empty" in again.stderr) == (2, True)
    assert not list(folder.rglob("__pycache__"))
    keep = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    port = {"GRADIO_SERVER_PORT": "0", "GRADIO_SERVER_NAME": "127.0.0.1"}
    alone = {"PYTHONDONTWRITEBYTECODE": "1", "LEADERBOARD_FOLDER": str(tmp_path)}
    with board(tmp_path, command=("app.py",), cwd=folder, env=keep | port | alone) as url:
        assert call(url + PAIR, "submit_results", values("Team"))[0] == "complete"
        assert fetch(f"{url}/")[0] == 200
    assert (tmp_path / "leaderboard.sqlite3").exists()
