"""Import of InferenceX's results: its files, its API, what is no result, and the baseline file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from competition.baseline_file import read_baselines, to_toml, with_baselines
from competition.inferencex import ImportedPoint, import_inferencex
from competition.profile import Baseline, Lengths, load_profile
from core.errors import ConfigError

POINT = Lengths(1024, 1024)


def agg(**changes: Any) -> dict[str, Any]:
    """As utils/process_result.py writes it: seconds, interactivity beside each tpot."""
    found = {
        "hw": "b200-trt",
        "conc": 4,
        "image": "nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc14",
        "model": "openai/gpt-oss-120b",
        "infmax_model_prefix": "gptoss",
        "framework": "trt",
        "precision": "fp4",
        "spec_decoding": "none",
        "disagg": False,
        "isl": 1024,
        "osl": 1024,
        "is_multinode": False,
        "tp": 8,
        "ep": 1,
        "dp_attention": "false",
        "tput_per_gpu": 413.779,
        "output_tput_per_gpu": 206.9,
        "median_ttft": 0.03,
        "median_tpot": 0.0023,
        "median_intvty": 434.57,
        "median_e2el": 2.162,
    }
    return {key: value for key, value in (found | changes).items() if value is not ...}


def api(**changes: Any) -> dict[str, Any]:
    """As /api/v1/benchmarks answers it, figures under metrics."""
    metrics = {"median_e2el": 2.162, "median_intvty": 434.57, "tput_per_gpu": 413.779}
    row = {
        "hardware": "b200",
        "framework": "trt",
        "model": "gpt-oss-120b",
        "precision": "fp4",
        "spec_method": "none",
        "disagg": False,
        "is_multinode": False,
        "prefill_tp": 8,
        "decode_tp": 8,
        "decode_ep": 1,
        "isl": 1024,
        "osl": 1024,
        "conc": 4,
        "image": "x",
        "date": "2026-08-22T00:00:00.000Z",
        "metrics": metrics | {"avg_power_w": 700.0},
    }
    return row | changes


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(value: object) -> Path:
        path = tmp_path / "agg.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


def ignore(_: str) -> None:
    pass


def test_an_aggregate_file(write: Any) -> None:
    [point] = import_inferencex(write(agg()), ignore)
    assert point == ImportedPoint(
        lengths=POINT,
        concurrency=4,
        hardware="b200-trt",
        framework="trt",
        precision="fp4",
        model="gptoss",
        speculation="none",
        tp=8,
        ep=1,
        image="nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc14",
        date="",
        median_e2e_ms=2162.0,
        interactivity=434.57,
        tput_per_gpu=413.779,
        output_tput_per_gpu=206.9,
        avg_power_w=None,
    )


@pytest.mark.parametrize(
    "wrap", [list, lambda rows: {"data": rows}, lambda rows: {"results": rows}]
)
def test_the_dashboards_answer(write: Any, wrap: Any) -> None:
    [point] = import_inferencex(write(wrap([api()])), ignore)
    assert (point.median_e2e_ms, point.interactivity, point.tput_per_gpu) == (
        2162.0,
        434.57,
        413.779,
    )
    assert (point.date, point.tp, point.ep, point.avg_power_w) == ("2026-08-22", 8, 1, 700.0)


@pytest.mark.parametrize(
    ("changes", "e2e", "interactivity"),
    [
        ({"median_intvty": ...}, 2162.0, 1 / 0.0023),
        ({"median_intvty": ..., "median_tpot": ..., "median_tpot_ms": 2.5}, 2162.0, 400.0),
        ({"median_e2el": ..., "median_e2el_ms": 2162.5}, 2162.5, 434.57),
    ],
)
def test_seconds_and_milliseconds(
    write: Any, changes: dict[str, Any], e2e: float, interactivity: float
) -> None:
    [point] = import_inferencex(write(agg(**changes)), ignore)
    assert (point.median_e2e_ms, point.interactivity) == pytest.approx((e2e, interactivity))


def test_the_best_configuration_of_each_point(write: Any) -> None:
    rows = [
        agg(tp=2, tput_per_gpu=900.0),
        agg(tp=4, tput_per_gpu=1000.0, median_e2el=3.0),
        agg(tp=8, tput_per_gpu=400.0),
        agg(conc=8, tput_per_gpu=690.565),
        agg(isl=None, osl=None),
        agg(is_multinode=True, tput_per_gpu=9999.0),
        agg(hw="mi355x", framework="vllm", tput_per_gpu=5000.0),
    ]
    said: list[str] = []
    points = import_inferencex(write(rows), said.append, hardware="b200-trt")
    assert [(p.concurrency, p.tp, p.median_e2e_ms) for p in points] == [(4, 4, 3000), (8, 8, 2162)]
    assert said[0].endswith("7 results, 2 points")
    assert said[1] == "passed over: 3 of other kinds, 2 slower"
    assert "1 on 4, 1 on 8" in said[2]
    [four, _] = import_inferencex(write(rows), ignore, hardware="B200-TRT", tp=8)
    assert four.tput_per_gpu == 400.0


def test_hardware_is_named_with_or_without_its_framework(write: Any) -> None:
    rows = [api(framework="vllm"), api(), api(hardware="mi355x")]
    assert len(import_inferencex(write(rows), ignore, hardware="b200")) == 1
    [point] = import_inferencex(write(rows), ignore, hardware="b200-trt")
    assert point.framework == "trt"


@pytest.mark.parametrize(
    ("rows", "filters", "shown"),
    [
        ([agg(), agg(hw="h200")], {}, r"choose --hardware b200-trt\|h200"),
        ([agg(), agg(precision="fp8")], {}, r"choose --precision fp4\|fp8"),
        ([agg(), agg(infmax_model_prefix="dsr1")], {}, r"choose --model dsr1\|gptoss"),
        ([agg()], {"hardware": "h100"}, "--hardware h100: .*it has b200-trt"),
        ([agg()], {"model": "x"}, "--model x: .*it has gptoss"),
        ([agg()], {"tp": 4}, "other filters"),
        ([agg(isl=None)], {}, "no such result"),
        ([agg(), agg(conc=...)], {}, "entry 1: has no conc"),
        (agg(tput_per_gpu=...), {}, "entry 0: has no tput_per_gpu"),
        (agg(median_intvty=..., median_tpot=0), {}, "median_tpot 0 is not above 0"),
        (agg(median_e2el=0.0), {}, "median_e2el 0.0 is not above 0"),
        (agg(tput_per_gpu=float("nan")), {}, "tput_per_gpu nan is not above 0"),
        (agg(median_e2el="fast"), {}, "'fast' is not a number"),
        (agg(conc=4.5), {}, "conc 4.5 is not a whole number"),
        ("{", {}, "not readable as JSON"),
        ([], {}, "holds no results"),
        ([1], {}, "holds no results"),
        ({"data": []}, {}, "holds no results"),
    ],
)
def test_what_cannot_be_imported(
    write: Any, rows: object, filters: dict[str, Any], shown: str
) -> None:
    with pytest.raises(ConfigError, match=shown):
        import_inferencex(write(rows), ignore, **filters)


def test_a_bad_result_of_other_hardware_is_no_matter(write: Any) -> None:
    rows = [agg(), agg(hw="h200", median_e2el=None)]
    assert len(import_inferencex(write(rows), ignore, hardware="b200-trt")) == 1


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not readable"):
        import_inferencex(tmp_path / "none", ignore)


ABOUT: dict[str, Any] = {
    "id": "nv0826",
    "source": 'InferenceX, "agg" files',
    "date": "2026-08-22",
    "hardware": "NVIDIA B200",
    "range_ratio": 0.8,
}


def test_a_baseline_file_there_and_back(write: Any, tmp_path: Path) -> None:
    rows = [agg(image="naïve \U0001f600 \\ \n"), agg(conc=8, tput_per_gpu=690.565, ep=...)]
    points = import_inferencex(write(rows), ignore)
    path = tmp_path / "nv.toml"
    path.write_text(to_toml(points, **ABOUT), encoding="utf-8")
    names, found = read_baselines(path)
    assert found == {
        (POINT, 4): Baseline(2162.0, 434.57, 413.779),
        (POINT, 8): Baseline(2162.0, 434.57, 690.565),
    }
    assert (names.id, names.source, names.range_ratio) == ("nv0826", ABOUT["source"], 0.8)
    assert names.block == "baseline_nv0826"
    assert names.median_e2e == "baseline_median_e2e_nv0826"
    assert names.tput_ratio == "tput_per_gpu_ratio_vs_nv0826"
    assert names.e2e_ratio == "median_e2e_ratio_vs_nv0826"
    assert names.interactivity_ratio == "interactivity_ratio_vs_nv0826"


def test_it_replaces_the_profiles_baselines(write: Any, tmp_path: Path) -> None:
    profile = load_profile("gptoss-fp4-vllm-mi355x")
    path = tmp_path / "nv.toml"
    points = import_inferencex(write([agg(conc=16), agg(conc=512)]), ignore)
    path.write_text(to_toml(points, **ABOUT))
    changed = with_baselines(profile, path)
    assert changed.baselines[POINT, 16].tput_per_gpu == 413.779  # where the original has none
    assert (POINT, 4) not in changed.baselines
    assert changed.names.hardware == "NVIDIA B200"
    assert (changed.rules, changed.accuracy) == (profile.rules, profile.accuracy)
    with pytest.raises(ConfigError, match="it has 1024/1024 at 16, 1024/1024 at 512"):
        with_baselines(load_profile("gptoss-fp4-vllm-mi355x-2026-03"), path)


HEAD = '[baseline]\nid = "a"\nhardware = "h"\nsource = "s"\ndate = "d"\nrange_ratio = 1.0\n'
ENTRY = (
    '[[point]]\nlengths = "1/2"\nconcurrency = 4\nmedian_e2e_ms = 1\ninteractivity = 1\n'
    "tput_per_gpu = 1\n"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[", "not readable as TOML"),
        ("a = 1", "has no baseline"),
        (HEAD, "has no point"),
        (HEAD + ENTRY.replace("interactivity", "x"), "has no interactivity"),
        (
            HEAD + ENTRY.replace("tput_per_gpu = 1", "tput_per_gpu = 0"),
            "tput_per_gpu 0 is not above",
        ),
        (HEAD + ENTRY.replace("_ms = 1", "_ms = []"), "not a baseline file"),
        (HEAD + ENTRY.replace("1/2", "1"), "not a pair of lengths"),
        (HEAD + ENTRY.replace('"1/2"', "1024"), 'lengths 1024: not text; give "ISL/OSL"'),
        (HEAD + ENTRY.replace("= 4", "= inf"), "not a baseline file"),
        (HEAD + ENTRY + ENTRY, "1/2 at 4 stands there twice"),
        (HEAD.replace('"a"', '"a b"') + ENTRY, "id 'a b'"),
        (HEAD.replace("1.0", '"x"') + ENTRY, "not a baseline file"),
    ],
)
def test_baseline_files_that_are_wrong(tmp_path: Path, text: str, shown: str) -> None:
    path = tmp_path / "b.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=shown) as caught:
        read_baselines(path)
    assert f"--baseline {path}" in str(caught.value)


def test_an_id_must_fit_into_a_name() -> None:
    with pytest.raises(ConfigError, match="letters"):
        to_toml([], **ABOUT | {"id": "nv-0826"})
