"""The card's text, as a user reads it."""

from __future__ import annotations

from dataclasses import replace

from core.account import DrainAccount
from core.scenario import Scenario
from report.card import render_card
from report.layout import WIDTH, flow
from results.summary import Summary
from tests.results.accounts import worker
from tests.results.test_summary import CONFIG, EXECUTION, FULL, MS, summary_of


def card(summary: Summary) -> str:
    text = render_card(summary, "vllm 1.0 x 2", "output/server/performance")
    assert max(map(len, text.splitlines())) <= WIDTH, text
    return text


def row(summary: Summary, label: str) -> str:
    """A row with what it goes on with, as one line."""
    lines = card(summary).splitlines()
    (start,) = (i for i, line in enumerate(lines) if line.startswith(label))
    found = [lines[start][len(label) :]]
    for line in lines[start + 1 :]:
        if not line.startswith(" " * 12):
            break
        found.append(line)
    return " ".join(" ".join(found).split())


def test_a_number_keeps_its_unit() -> None:
    for length in range(40, 66):
        lines = flow("row", f"{'x' * length} 12.5 ms, at 34 % of it; after 2 s (replica 5)")
        assert len(lines) == 2 and all(len(line) <= WIDTH for line in lines)
        assert not any(line.split()[0] in ("ms,", "%", "s") for line in lines)


def test_headroom_of_a_calm_run() -> None:
    calm = replace(EXECUTION, workers=(worker(0), worker(1, (0.34,) * 20, (210_000,) * 9)))
    assert row(summary_of(execution=calm, late_ns=MS // 2), "headroom") == (
        "busiest process worker 1 at 34 % of a core, turns p99 0.21 ms; "
        "sent late p50 0.50, p99 0.50, max 0.50 ms (limit of p99 30)"
    )
    text = card(summary_of())
    assert "verdict     VALID   (exit code 0)" in text
    assert "\nharness" not in text and "draining" not in text


def test_headroom_says_what_it_does_not_know() -> None:
    inexact = replace(summary_of(), due_times_exact=False, handover_ns=120_000.0)
    text = row(inexact, "headroom")
    assert "(limit of p99 30, due times are approximate)" in text
    assert "LoadGen sees TTFT +0.120 ms later" in text
    short = replace(inexact.headroom, limited=None, unjudged="the test took less than 2 s")
    text = row(replace(inexact, headroom=short), "headroom")
    assert text.endswith("not judged: the test took less than 2 s")


def test_offline_headroom_has_no_lateness() -> None:
    text = row(summary_of(replace(CONFIG, scenario=Scenario.OFFLINE)), "headroom")
    assert text == "busiest process LoadGen at 10 % of a core"


def test_a_limited_run_never_looks_clean() -> None:
    text = card(summary_of(execution=FULL))
    assert "verdict     VALID, but limited by the harness   (exit code 0)" in text
    verdict = row(summary_of(execution=FULL), "verdict")
    assert "- headroom: worker 1 used 95 % of a core in its busiest 10 s" in verdict
    assert "--num-workers 3" in verdict


def test_why_a_run_is_limited_is_not_cut_off() -> None:
    summary = summary_of(execution=FULL, late_ns=31 * MS)
    many = tuple(f"reason {i}" for i in range(9))
    judgement = replace(
        summary.judgement, reasons=(*summary.judgement.reasons, *many), limited=True
    )
    verdict = row(replace(summary, judgement=judgement), "verdict")
    assert "31.0 ms late" in verdict and "worker 1 used 95 %" in verdict
    assert "7 more in summary.json" in verdict


def test_itl_says_of_which_reads_it_is() -> None:
    plain = summary_of()
    assert "by event, 1.00 tokens each" in row(plain, "ITL ms")
    assert "reads" not in row(plain, "ITL ms")
    drain = DrainAccount(12, 88, 50 * MS, ends=98, end_wait_sum_ns=196 * MS, end_wait_max_ns=5 * MS)
    half = worker(0, gaps=(10 * MS,), drain=drain)
    drained = summary_of(execution=replace(EXECUTION, workers=(half,)))
    assert "of 12 % of the reads" in row(drained, "ITL ms")
    assert row(drained, "draining") == (
        "found 98 % of the ends, late by at most 5.0 ms (mean 2.0); looks are due at most 50 ms apart"
    )
    whole = worker(0, drain=replace(drain, reads=0))
    text = row(summary_of(execution=replace(EXECUTION, workers=(whole,))), "ITL ms")
    assert text == "none: drained streams have no times between events"
