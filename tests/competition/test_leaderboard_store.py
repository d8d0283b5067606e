"""The leaderboard without its web server: entries, the database, ranks, limits, files."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from competition.leaderboard.entry import Entry, from_document, from_values
from competition.leaderboard.export import as_csv, as_json
from competition.leaderboard.ranking import best_of_teams, standing
from competition.leaderboard.rate import RateLimit
from competition.leaderboard.store import Store
from competition.leaderboard.tables import board_html
from competition.leaderboard.tokens import check_token, make_token, read_tokens
from competition.profile import DEFAULT, Lengths, load_profile
from core.errors import ConfigError, SetupError
from tests.competition.board import LENGTHS, ROOT, document, values

PROFILE = load_profile(DEFAULT)
NOW = datetime(2026, 2, 1, tzinfo=UTC)


def entry(team: str = "Team", tput: float = 500.0, **changes: Any) -> Entry:
    made = from_document(team, json.dumps(document(tput)), PROFILE, NOW)
    return replace(made, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "board.sqlite3")


def test_a_document_and_its_bare_values_are_the_same_measurement() -> None:
    bare = from_values(values(), PROFILE, LENGTHS, NOW)
    whole = entry()
    assert bare.digest == whole.digest
    assert (bare.date, bare.engine, bare.tp) == (NOW, "unknown", None)
    assert (whole.date.day, whole.engine, whole.engine_version, whole.tp) == (
        5,
        "vllm",
        "0.11.0",
        8,
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"profile": "another"}, "another"),
        ({"isl": 999}, "999/1024"),
        ({"isl": None}, "isl"),
        ({"conc": 0}, "concurrency"),
        ({"conc": 70000}, "concurrency"),
        ({"median_e2el_ms": -1}, "median_e2e_ms"),
        ({"tput_per_gpu": 0}, "tput_per_gpu"),
        ({"tput_per_gpu": 1e9}, "tput_per_gpu"),
        ({"median_e2e_ratio_vs_b200_1126": 0.5}, "e2e_ratio"),
        ({"tput_per_gpu_ratio_vs_b200_1126": -1}, "tput_ratio"),
        (
            {"accuracy": dict(PROFILE.accuracy.baselines) | {"word_perplexity": 250.0}},
            "word_perplexity",
        ),
        ({"accuracy": dict(PROFILE.accuracy.baselines) | {"bits_per_byte": 0}}, "bits_per_byte"),
        ({"date": "yesterday"}, "date"),
        ({"date": "2026-03-01T00:00:00Z"}, "future"),
        ({"tp": 0}, "tp"),
        ({"engine": {"kind": "vllm", "version": "x" * 101}}, "engine.version"),
        ({"engine": {"kind": "vllm", "version": "a\nb"}}, "engine.version"),
        ({"padding": "x" * 256 * 1024}, "bytes"),
    ],
)
def test_an_implausible_document_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        from_document("Team", json.dumps(document(**changes)), PROFILE, NOW)


def details(**changes: Any) -> dict[str, Any]:
    kept = {"whole": True, "comparable": True} | changes
    return {"accuracy_validation": {"status": "PASSED", "details": kept}}


def arguments(**changes: Any) -> dict[str, Any]:
    return {"benchmark_args": {"num_prompts": 80, "random_range_ratio": 1.0} | changes}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (details(whole=False), "details.whole: False; expected true"),
        (details(comparable=False), "details.comparable: False; expected true"),
        (details(comparable="true"), "details.comparable: 'true'"),
        ({"accuracy_validation": {"status": "PASSED"}}, "details.whole: None"),
        ({"accuracy_validation": None}, "details.whole: None"),
        ({"failed_requests": 1}, "failed_requests: 1; expected 0"),
        ({"failed_requests": None}, "failed_requests: there is no value"),
        ({"reasons": ["1 requests failed\x1b"]}, r"reasons: \['1 requests failed\\x1b'\]"),
        ({"reasons": None}, "reasons: None"),
        ({"gpus_used": 16}, "gpus_used: 16; expected at most 8"),
        ({"gpus_used": None}, "gpus_used: there is no value"),
        (arguments(num_prompts=40), "benchmark_args.num_prompts: 40.0; expected 80"),
        (arguments(random_range_ratio=0.8), "benchmark_args.random_range_ratio: 0.8; expected 1"),
        ({"benchmark_args": None}, "benchmark_args.num_prompts: there is no value"),
        ({"conc": 5}, "concurrency: 5; ISL/OSL 1024/1024 is measured at 4, 8, 16"),
    ],
)
def test_a_document_of_another_measurement_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        from_document("Team", json.dumps(document(**changes)), PROFILE, NOW)


def test_each_concurrency_has_its_number_of_prompts() -> None:
    for concurrency in PROFILE.rule(LENGTHS).concurrencies:
        text = json.dumps(document(concurrency=concurrency))
        assert from_document("Team", text, PROFILE, NOW).concurrency == concurrency


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "7", None, "[" * 100_000, '{"conc": NaN}', "9" * 5000]
)
def test_what_is_no_document_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="document"):
        from_document("Team", text, PROFILE, NOW)


def test_an_unknown_engine_counts_as_unknown() -> None:
    found = document(engine={"kind": "<img src=x>", "version": None})
    assert from_document("Team", json.dumps(found), PROFILE, NOW).engine == "unknown"


def test_every_submission_is_kept_and_a_repetition_is_recognised(store: Store) -> None:
    assert store.add(entry(), NOW)
    assert store.add(entry(tput=501.0), NOW)
    assert not store.add(entry("TEAM "), NOW + timedelta(hours=1))
    assert [row.entry.tput_per_gpu for row in store.all()] == [500.0, 501.0]
    assert store.all()[0].entry == entry()
    assert store.all()[0].received == NOW


def test_a_board_holds_one_profile_and_pair(store: Store) -> None:
    store.add(entry(), NOW)
    store.add(entry(lengths=Lengths(8192, 1024)), NOW)
    store.add(entry(profile="another"), NOW)
    assert [row.id for row in store.board(DEFAULT, LENGTHS)] == [1]


def test_the_database_outlives_the_process(tmp_path: Path) -> None:
    Store(tmp_path / "a.sqlite3").add(entry(), NOW)
    assert len(Store(tmp_path / "a.sqlite3").all()) == 1
    (tmp_path / "b.sqlite3").write_text("this is no database, and long enough to be seen as such")
    with pytest.raises(SetupError, match=r"b\.sqlite3"):
        Store(tmp_path / "b.sqlite3")


def test_the_rank_goes_by_throughput_then_interactivity_then_latency(store: Store) -> None:
    for made in (
        entry("slow", 400.0),
        entry("late", 500.0, interactivity=350.0, median_e2e_ms=3100.0),
        entry("first", 600.0),
        entry("even", 500.0, interactivity=350.0),
        entry("brisk", 500.0, interactivity=351.0),
        entry("FIRST", 700.0, concurrency=4),
        entry("slow", 390.0),
    ):
        store.add(made, NOW)
    rows = store.all()
    order = ["first", "brisk", "even", "late", "slow"]
    assert [row.entry.team for row in best_of_teams(rows, 8)] == order
    assert best_of_teams(rows, 8)[-1].entry.tput_per_gpu == 400.0
    assert standing(rows, "Even", 8) == (3, 5)


def test_the_table_shows_strangers_text_as_text(store: Store) -> None:
    store.add(entry('<img src=x onerror="alert(1)">', engine_version="<b>1</b>"), NOW)
    html = board_html(store.all(), PROFILE, LENGTHS, None)
    assert "<img" not in html
    assert "<b>" not in html
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;" in html


def test_a_minute_holds_so_many_of_one_key() -> None:
    now = [0.0]
    rate = RateLimit(2, clock=lambda: now[0])
    rate.count("a")
    now[0] = 30.0
    rate.count("a")
    with pytest.raises(ConfigError, match="wait 30 s"):
        rate.count("a")
    rate.count("b")
    now[0] = 60.0
    rate.count("a")


def test_a_token_is_stored_as_its_sum_and_needed_for_its_team_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    old, token = make_token(path, "Team A"), make_token(path, " team a")
    other = make_token(path, "Team B")
    sums = read_tokens(path)
    assert token not in path.read_text()
    check_token(sums, "TEAM  A", token)
    check_token(sums, "Team C", None)
    for wrong in (None, "", old, other, "é"):
        with pytest.raises(ConfigError, match="token"):
            check_token(sums, "Team A", wrong)
    path.write_text("[]")
    with pytest.raises(SetupError, match="tokens"):
        read_tokens(path)


@pytest.mark.parametrize("team", ["=cmd()", "+1", "-1", "@x", 'a, "b"'])
def test_a_spreadsheet_sees_no_formula(store: Store, team: str) -> None:
    store.add(entry(team), NOW)
    (row,) = csv.DictReader(io.StringIO(as_csv(store.all())))
    assert row["team"] == (team if team[0] == "a" else f"'{team}")
    assert row["tput_per_gpu"] == "500.0"
    assert json.loads(as_json(store.all()))[0]["team"] == team


def test_the_space_pins_what_the_project_pins() -> None:
    folder = ROOT / "competition" / "leaderboard" / "space"
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]["competition"]
    pins = (folder / "requirements.txt").read_text().split()
    assert set(pins) < set(extras)
    about = (folder / "README.md").read_text().split("---")[1]
    assert f"sdk_version: {pins[0].removeprefix('gradio==')}\n" in about
