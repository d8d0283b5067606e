"""The card's rows about the engines."""

from __future__ import annotations

from dataclasses import replace

from report.card import render_card
from report.layout import WIDTH
from results.engine_rules import EngineFacts
from results.engines import EngineLoad, EngineLoads, ReplicaLoad
from results.summary import Summary
from tests.results.test_summary import URLS, summary_of

FULL = EngineLoad(600, 812.4, 1024, 3.2, 2826, 0.931, 10**7, 0, 0.0, 1200, 10**8)
NOTHING = EngineLoad(0, *[None] * 10)  # type: ignore[arg-type]


def summary(load: EngineLoad, exposed: int = 2, facts: EngineFacts | None = None) -> Summary:
    loads = EngineLoads(
        exposed, load, tuple(ReplicaLoad(n, url, load) for n, url in enumerate(URLS))
    )
    return replace(summary_of(), engines=loads, engine_said=facts or EngineFacts("vllm", True))


def rows(found: Summary) -> list[str]:
    """The engines' lines."""
    lines = render_card(found, "vllm", "output").splitlines()
    assert max(map(len, lines)) <= WIDTH
    start = next(i for i, line in enumerate(lines) if line.startswith("engines"))
    end = next(i for i, line in enumerate(lines) if line.startswith(("LoadGen", "left open")))
    return lines[start:end]


def test_all_that_is_known_fits_two_lines() -> None:
    assert rows(summary(FULL)) == [
        "engines     running mean 812, max 1,024; waiting mean 3, max 2,826; KV use at",
        "            most 93 %; prefix hits 0.0 %; preemptions 1,200",
    ]


def test_what_is_not_shown_is_not_said() -> None:
    load = replace(NOTHING, running_mean=4.0, running_max=8)
    for caching, text in ((True, "; prefix cache on"), (False, "; prefix cache off"), (None, "")):
        found = rows(summary(load, facts=EngineFacts("vllm", caching)))
        assert found == [f"engines     running mean 4, max 8{text}"]


def test_engines_without_metrics_say_how_to_get_them() -> None:
    assert rows(summary(NOTHING, 0)) == ["engines     expose no metrics"]
    (row,) = rows(summary(NOTHING, 0, EngineFacts("sglang")))
    assert row == "engines     expose no metrics (SGLang shows them with --enable-metrics)"
    assert " ".join(" ".join(rows(summary(FULL, 1))).split()).endswith("; 1 of them show nothing")


def test_a_run_too_short_for_a_look_says_so() -> None:
    load = replace(NOTHING, preemptions=0)
    found = " ".join(rows(summary(load)))
    assert "not looked at during the run: it was too short" in found and "preemptions 0" in found


def test_what_engines_still_have_is_told() -> None:
    left = replace(summary(FULL), left_open={"http://a:1": 3})
    text = render_card(left, "vllm", "output")
    assert "left open   http://a:1 still has 3 requests" in text
    assert "left open" not in render_card(summary(FULL), "vllm", "output")
