"""What engines may not do in a performance run, at the borders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.scenario import Scenario
from results.engine_rules import EngineFacts, reasons_engines
from results.engines import NO_SAMPLES, EngineLoads, engine_loads
from results.records import Records
from telemetry.sample import ReplicaSample
from tests.results.test_engines import S, table
from tests.results.test_summary import CONFIG, EXECUTION, records, summary_of

OFF = EngineFacts("vllm", prefix_caching=False)
ON = EngineFacts("vllm", prefix_caching=True)
OFFLINE = replace(CONFIG, scenario=Scenario.OFFLINE)
UNKNOWN = engine_loads(NO_SAMPLES, (), 0, 0)


def loads(hits: int, queries: int = 10_000) -> EngineLoads:
    """One replica whose counters grew by so much, from where earlier runs had left them."""
    before = ReplicaSample(0, S, prefix_queries=5000, prefix_hits=4000)
    after = ReplicaSample(0, 2 * S, prefix_queries=5000 + queries, prefix_hits=4000 + hits)
    return engine_loads(table(before, after), ("http://a:1",), S, 2 * S)


def answers(**columns: Any) -> Records:
    """A hundred answers with these columns."""
    found = records().copy()
    for name, values in columns.items():
        found[name] = values
    return found


def reasons(
    facts: EngineFacts = OFF, found: EngineLoads = UNKNOWN, answered: Records | None = None,
    config: Any = CONFIG,
) -> tuple[str, ...]:  # fmt: skip
    return reasons_engines(config, facts, found, records() if answered is None else answered)


@pytest.mark.parametrize(("hits", "marked"), [(0, False), (100, False), (101, True), (9000, True)])
@pytest.mark.parametrize("facts", [OFF, EngineFacts("vllm"), ON])
def test_a_hit_rate_above_one_percent_is_marked(
    facts: EngineFacts, hits: int, marked: bool
) -> None:
    assert bool(reasons(facts, loads(hits))) is marked


def test_the_reason_has_number_rule_and_remedy() -> None:
    (reason,) = reasons(ON, loads(3750))
    assert reason == (
        "37.5 % of the prompt tokens came from the prefix cache; the rules forbid caching across "
        "queries: start the engine with --no-enable-prefix-caching"
    )
    assert "--disable-radix-cache" in reasons(EngineFacts("sglang", True), loads(3750))[0]


def test_caching_that_is_on_is_marked_where_prompts_repeat() -> None:
    once, twice = records(), answers(index=np.arange(100) % 99)
    assert reasons(ON, UNKNOWN, once) == ()
    (reason,) = reasons(ON, UNKNOWN, twice)
    assert "(its hit rate is not known) and 1 of 100 queries repeat a prompt" in reason
    assert "(hit rate 0.0 %)" in reasons(ON, loads(0), twice)[0]
    assert len(reasons(ON, loads(5000), twice)) == 1  # one reason is enough
    assert reasons(OFF, UNKNOWN, twice) == reasons(EngineFacts("vllm"), UNKNOWN, twice) == ()


def test_it_holds_for_offline_but_for_no_run_that_is_about_answers() -> None:
    twice = answers(index=0)
    assert reasons(ON, UNKNOWN, twice, OFFLINE)
    assert reasons(ON, loads(5000), twice, replace(CONFIG, accuracy=True)) == ()
    assert reasons(ON, loads(5000), twice, replace(CONFIG, compliance="TEST09")) == ()


@pytest.mark.parametrize(
    ("n_tokens", "n_events", "marked"),
    [
        (1000, 10, False),  # a tenth of the answer in each event
        (1000, 9, True),
        (1300, 4, True),  # --stream-interval 500
        (1300, 14, False),  # 100
        (6, 3, False),  # a short answer by two tokens is no large event
        (7, 3, True),
        (20, 20, False),
        (1, 1, False),
    ],
)
def test_events_that_hold_much_of_an_answer_are_marked(
    n_tokens: int, n_events: int, marked: bool
) -> None:
    answered = answers(n_tokens=n_tokens, n_events=n_events)
    assert bool(reasons(answered=answered)) is marked
    assert reasons(answered=answered, config=OFFLINE) == ()


def test_the_reason_tells_of_how_many_events_tpot_is() -> None:
    facts = EngineFacts("sglang", False, stream_interval=500)
    (reason,) = reasons(facts, answered=answers(n_tokens=1300, n_events=4))
    assert reason == (
        "an event brought 325.0 tokens, 25 % of the mean answer of 1,300: TTFT and TPOT are of 4.0 "
        "events an answer, not of tokens: start the engine with a smaller --stream-interval than 500"
    )


@pytest.mark.parametrize(("whole", "marked"), [(0, False), (1, False), (2, True), (100, True)])
def test_answers_in_one_event_have_no_tpot(whole: int, marked: bool) -> None:
    events = np.where(np.arange(100) < whole, 1, 30)
    found = reasons(answered=answers(n_tokens=30, n_events=events))
    assert bool(found) is marked
    if marked:
        assert f"{whole} of 100 answers came in a single event" in found[0]


def test_failed_queries_are_no_streams() -> None:
    assert reasons(answered=answers(outcome=1, n_tokens=500, n_events=1)) == ()
    assert reasons(answered=records(n=0)) == ()


def test_a_marked_run_is_not_valid_and_says_why_first() -> None:
    found = table(
        ReplicaSample(0, 1, prefix_queries=0), ReplicaSample(0, 2, prefix_queries=9, prefix_hits=3)
    )
    summary = summary_of(execution=replace(EXECUTION, said=ON, samples=found))
    assert summary.judgement.text == "UNOFFICIAL" and summary.exit_code == 0
    assert summary.judgement.reasons[0].startswith("33.3 % of the prompt tokens")
    assert summary.to_json()["engines"]["all"]["prefix_hit_rate"] == pytest.approx(1 / 3)
    assert summary.to_json()["engine_said"]["prefix_caching"] is True
