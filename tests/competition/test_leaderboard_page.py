"""The leaderboard's page in a real browser: what is shown, what can be chosen, what strangers write.

With LEADERBOARD_SCREENSHOT=FILE, the page of the made-up teams is saved as that picture.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from competition.profile import DEFAULT, Lengths, load_profile
from tests.competition.board import board, call, document, values

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 45_000  # a page takes seconds on a machine at work
UPLOAD_PAIR, UPLOAD_CONC = Lengths(1024, 8192), 16  # no other result is there
PROFILE = load_profile(DEFAULT)
# CONC: tokens per second and GPU, median E2E in ms, interactivity.
POINTS = {4: (413.8, 2162.0, 434.6), 8: (690.6, 2646.0, 364.6), 16: (1100.0, 3300.0, 300.0)}
# Of each team: how much better in throughput, latency and interactivity; its engine.
TEAMS = {
    "Example team A": (1.12, 0.97, 1.03, "vllm", "0.11.0"),
    "Example team B": (1.03, 1.02, 1.00, "vllm", "0.10.2"),
    "Example team C": (0.96, 0.93, 1.09, "sglang", "0.5.5"),
    "Example team D": (0.82, 1.15, 0.90, "vllm", "0.10.1"),
    "Example team E": (1.07, 1.05, 0.95, "sglang", "0.5.4"),
}
HOSTILE = (
    '<img src=x onerror="alert(1)">',
    "<b>bold</b>",
    "=cmd()",
    "${alert(2)} {{value}} <script>alert(3)</script>",
)


@dataclass
class Seen:
    """An open page, and what it did that it should not."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def rows(self, table: int = 0) -> list[list[str]]:
        rows = self.page.locator("#boards table").nth(table).locator("tbody tr").all()
        return [row.locator("td").all_inner_texts() for row in rows]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if program is None:
        assert "CI" not in os.environ, "no Chromium"
        pytest.skip("no Chromium to look at pages with: apt-get install chromium")
    with sync_playwright() as playwright:
        expect.set_options(timeout=WAIT_MS)
        launched = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with board(tmp_path_factory.mktemp("board"), "--rate", "1000") as address:
        for team in TEAMS:
            for week in range(3):
                for concurrency in POINTS:
                    submit(address, team, result(team, week, concurrency))
        for number, team in enumerate(HOSTILE):
            found = document(600.0 + number, lengths=Lengths(1024, 8192))
            submit(address, team, found | {"engine": {"kind": "vllm", "version": team[:100]}})
        yield address


def result(team: str, week: int, concurrency: int) -> dict[str, Any]:
    tput, e2e, interactivity, engine, version = TEAMS[team]
    grown = 0.9 + 0.05 * week
    base = POINTS[concurrency]
    return document(
        concurrency=concurrency,
        date=f"2026-01-{5 + 7 * week:02}T10:00:00+00:00",
        engine={"kind": engine, "version": version, "model": PROFILE.model},
        tput_per_gpu=base[0] * tput * grown,
        median_e2el_ms=base[1] * e2e / grown,
        interactivity=base[2] * interactivity * grown,
        **dict.fromkeys(
            (PROFILE.names.e2e_ratio, PROFILE.names.tput_ratio, PROFILE.names.interactivity_ratio)
        ),
    )


def submit(url: str, team: str, content: dict[str, Any]) -> None:
    event, told = call(url, "submit_document", [team, json.dumps(content)])
    assert event == "complete", told


@pytest.fixture
def seen(browser: Browser, url: str) -> Iterator[Seen]:
    """A fresh page; afterwards: no dialog, no error, and nothing loaded from elsewhere."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened = Seen(context.new_page())
    opened.page.on("dialog", lambda dialog: (opened.faults.append("dialog"), dialog.dismiss()))
    opened.page.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.page.on(
        "console",
        lambda told: opened.faults.append(told.text) if told.type == "error" else None,
    )
    opened.page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((url, "data:", "blob:"))
            else opened.faults.append(request.url)
        ),
    )
    yield opened
    context.close()
    assert opened.faults == []


def open_page(seen: Seen, address: str) -> None:
    seen.page.goto(address)
    expect(seen.page.locator("#boards table").first).to_be_visible()


def test_ranks_ratios_and_plots(seen: Seen, url: str) -> None:
    open_page(seen, f"{url}/")
    page = seen.page
    assert [row[:2] for row in seen.rows()] == [
        [str(rank), f"Example team {letter}"] for rank, letter in enumerate("AEBCD", start=1)
    ]
    first = seen.rows()[0]
    assert (first[2], first[3], first[9]) == (
        "463.5",
        "1.12\N{MULTIPLICATION SIGN}",
        "vllm 0.11.0, TP 8",
    )
    expect(page.locator("#boards h3")).to_have_count(3)
    for name in ("#tput", "#e2e"):
        # Fifteen results, and the baseline at two concurrencies.
        expect(page.locator(f"{name} .scatterlayer .point")).to_have_count(17)
        expect(page.locator(f"{name} .legend")).to_contain_text("NVIDIA B200")
        expect(page.locator(f"{name} .legend")).to_contain_text("Pareto frontier")
        expect(page.locator(f"{name} .scatterlayer .js-line")).to_have_count(2)
    if path := os.environ.get("LEADERBOARD_SCREENSHOT"):
        page.screenshot(path=path, full_page=True)


def test_filters(seen: Seen, url: str) -> None:
    open_page(seen, f"{url}/")
    page = seen.page
    page.locator("#engine input").click()
    page.get_by_role("option", name="sglang").click()
    expect(page.locator("#boards table").first.locator("tbody tr")).to_have_count(2)
    assert {row[1] for row in seen.rows()} == {"Example team C", "Example team E"}
    page.locator("#conc").get_by_label("8", exact=True).click()
    expect(page.locator("#boards h3")).to_have_count(1)
    expect(page.locator("#boards h3")).to_contain_text("1024/1024 at CONC 8")
    page.locator("#last input").first.fill("2026-01-06")
    page.locator("#last input").first.press("Enter")
    # The first week's results alone: 5 % of the base less for each week.
    expect(page.locator("#boards td").nth(2)).to_have_text("665.0")
    page.get_by_label("8192/1024").click()
    expect(page.locator("#boards")).to_contain_text("No results yet")


def test_a_pairs_own_page_shows_what_was_just_submitted(seen: Seen, url: str) -> None:
    address = f"{url}/isl8192osl1024"
    bare = values("Just now", lengths=Lengths(8192, 1024), concurrency=4, team_tput=1999.0)
    assert call(address, "submit_results", bare)[1][0]["rank"] == 1
    open_page(seen, address)
    assert [row[:3] for row in seen.rows()] == [["1", "Just now", "1,999.0"]]
    expect(seen.page.get_by_label("1024/1024")).to_have_count(0)


def test_one_teams_history(seen: Seen, url: str) -> None:
    open_page(seen, f"{url}/")
    page = seen.page
    page.get_by_text("One team's history").click()
    page.locator("#team input").click()
    page.get_by_role("option", name="Example team D").click()
    expect(page.locator("#history .scatterlayer .point")).to_have_count(9)
    expect(page.locator("#history .gtitle")).to_have_text("Submissions of Example team D")


def test_strangers_text_is_text(seen: Seen, url: str) -> None:
    open_page(seen, f"{url}/isl1024osl8192")
    page = seen.page
    assert {row[1] for row in seen.rows()} == set(HOSTILE)
    assert seen.rows()[0][9] == f"vllm {HOSTILE[3]}, TP 8"
    assert page.locator("#boards img, #boards b, #boards script").count() == 0
    legend = page.locator("#tput .legend")
    for team in HOSTILE:
        expect(legend).to_contain_text(team)
    page.locator("#tput .point").first.hover(force=True)
    expect(page.locator("#tput .hoverlayer")).to_contain_text("median E2E")
    page.get_by_text("One team's history").click()
    page.locator("#team input").click()
    page.get_by_role("option", name=HOSTILE[0]).click()
    expect(page.locator("#history .gtitle")).to_have_text(f"Submissions of {HOSTILE[0]}")


def _choose(page: Page, file: Path) -> None:
    """In place of the file that is there."""
    chosen = page.locator("#upload-file")
    if (clear := chosen.get_by_label("Clear")).count():
        clear.click()
    chosen.locator("input[type=file]").set_input_files(file)
    expect(chosen).to_contain_text(file.stem)


def test_a_file_is_uploaded(seen: Seen, url: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(document(900.0, UPLOAD_CONC, UPLOAD_PAIR)))
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(document(900.0, UPLOAD_CONC, UPLOAD_PAIR, failed_requests=1)))
    open_page(seen, f"{url}/isl1024osl8192")
    page = seen.page
    page.get_by_text("Submit a result file").click()
    page.locator("#upload-team input, #upload-team textarea").fill("<i>x</i>\u202e")
    page.locator("#upload-send").click()
    expect(page.locator("#outcome .refused")).to_contain_text("choose a result file")
    _choose(page, file)
    page.locator("#upload-send").click()
    expect(page.locator("#outcome .refused")).to_contain_text("'<i>x</i>\\u202e'")
    page.locator("#upload-team input, #upload-team textarea").fill("<i>Uploaders</i>")
    _choose(page, wrong)
    page.locator("#upload-send").click()
    expect(page.locator("#outcome .refused")).to_contain_text("failed_requests: 1")
    _choose(page, file)
    page.locator("#upload-send").click()
    expect(page.locator("#outcome .accepted")).to_contain_text("<i>Uploaders</i> has rank 1 of 1")
    expect(page.locator("#boards h3").last).to_contain_text("CONC 16")
