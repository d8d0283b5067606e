"""The ceiling of known costs, and the sentence about it."""

from __future__ import annotations

import json

import pytest

from calibrate.ceiling import Calibration, Cost, Mix, Reading, costs


def test_two_mixtures_give_both_slopes() -> None:
    def reading(load: Mix) -> Reading:
        main, worker = 50e-6 * load.queries, 100e-6 * load.queries + 8e-6 * load.events
        return Reading(load, (main, worker))

    found = costs([reading(Mix(2000, 4000)), reading(Mix(0, 20_000))], cores=4)
    assert [cost.process for cost in found] == ["LoadGen", "worker 0", "all 4 cores"]
    for cost, (query_s, event_s) in zip(
        found, [(50e-6, 0), (100e-6, 8e-6), (150e-6 / 4, 2e-6)], strict=True
    ):
        assert cost.query_s == pytest.approx(query_s)
        assert cost.event_s == pytest.approx(event_s, abs=1e-12)


def test_without_events_one_is_enough() -> None:
    found = costs([Reading(Mix(1000), (0.01, 0.02))], cores=2)
    assert [cost.query_s for cost in found] == pytest.approx([10e-6, 20e-6, 15e-6])
    assert [cost.event_s for cost in found] == [0, 0, 0]


def test_noise_makes_no_negative_cost() -> None:
    found = costs([Reading(Mix(1000, 2000), (0.1, 0.1)), Reading(Mix(0, 9000), (0.0, 0.9))], 2)
    assert all(cost.query_s >= 0 and cost.event_s >= 0 for cost in found)


LOADGEN, WORKER = Cost("LoadGen", 40e-6, 0.0), Cost("worker 0", 20e-6, 5e-6)


def test_the_run_is_within_the_ceiling() -> None:
    found = Calibration(Mix(61, 6_300), (LOADGEN, WORKER))
    assert found.enough and found.first is WORKER
    factor = 0.8 / (61 * 20e-6 + 6_300 * 5e-6)
    assert found.ceiling.queries == pytest.approx(61 * factor)
    assert found.sentence == (
        "this client can drive 1,490 QPS / 154,000 events/s; your run needs 61 QPS / 6,300 events/s"
    )


@pytest.mark.parametrize(
    ("need", "costs", "end"),
    [
        (Mix(1600, 160_000), (LOADGEN, WORKER),
         "worker 0 would be the bottleneck: use more --num-workers or a larger stream interval on "
         "the engine"),
        (Mix(50_000), (WORKER,), "worker 0 would be the bottleneck: use more --num-workers"),
        (Mix(30_000), (LOADGEN, WORKER),
         "LoadGen would be the bottleneck: use a machine with faster cores"),
        (Mix(30_000), (WORKER, Cost("all 2 cores", 30e-6, 0.0)),
         "all 2 cores would be the bottleneck: use more cores"),
    ],
)  # fmt: skip
def test_the_run_is_above_it(need: Mix, costs: tuple[Cost, ...], end: str) -> None:
    found = Calibration(need, costs)
    assert not found.enough
    assert found.sentence.endswith(f"which is more: {end}")


def test_at_the_limit() -> None:
    cost = Cost("worker 0", 2.0**-10, 0.0)
    assert Calibration(Mix(0.8 * 2**10), (cost,)).enough
    assert not Calibration(Mix(0.801 * 2**10), (cost,)).enough


def test_a_cost_that_was_not_seen_is_no_error() -> None:
    assert Calibration(Mix(5), (Cost("worker 0", 0.0, 0.0),)).enough


def test_rates_below_one_are_shown() -> None:
    assert str(Mix(0.0123)) == "0.0123 QPS"
    assert str(Mix(12_400, 410_000)) == "12,400 QPS / 410,000 events/s"


def test_json() -> None:
    found = Calibration(Mix(61, 6_300), (LOADGEN, WORKER)).to_json()
    assert json.loads(json.dumps(found))["enough"] is True
    assert found["first_at_its_limit"] == "worker 0"
