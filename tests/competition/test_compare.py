"""`compare`, with records whose true differences are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from competition.bootstrap import Requests, draw_ratios, interval, requests_of
from competition.compare import main
from competition.metrics import Gpus, point_figures
from competition.profile import DEFAULT, load_profile
from core.errors import ConfigError
from core.histogram import EDGES_NS
from core.outcome import Outcome
from core.record import RECORD
from results.records import Records, write_parquet

ISL, OSL, CONC, N = 1024, 64, 4, 80
NO_GAPS = np.zeros(len(EDGES_NS) + 1, np.int64)


def records_of(seed: int, *, faster: float = 1.0, spread: float = 0.3, n: int = N) -> Records:
    """CONC requests in flight at all times; `spread` belongs to the request, 2 % to the run."""
    of_request, of_run = np.random.default_rng(5), np.random.default_rng(seed)
    slow = np.exp(spread * of_request.standard_normal(n) + 0.02 * of_run.standard_normal(n))
    return timed(slow / faster)


def timed(
    slow: np.ndarray[Any, np.dtype[np.float64]], first_ms: float = 50, rest_ms: float = 450
) -> Records:
    records, free = np.zeros(len(slow), RECORD), [10**9] * CONC
    for i, factor in enumerate(slow):
        lane = int(np.argmin(free))
        begin, ttft, rest = free[lane], int(first_ms * 1e6 * factor), int(rest_ms * 1e6 * factor)
        free[lane] = begin + ttft + rest
        records[i]["index"], records[i]["sent_ns"] = i, begin
        records[i]["first_token_ns"], records[i]["done_ns"] = begin + ttft, free[lane]
    records["prompt_tokens"], records["n_tokens"], records["n_events"] = ISL, OSL, OSL
    records["outcome"] = Outcome.OK
    return records


def write_result(
    folder: Path,
    records: Records | None,
    *,
    conc: int = CONC,
    seed: int = 0,
    figures: Records | None = None,
    **changed: Any,
) -> Path:
    """A result file as a run leaves it, with its folder of records."""
    name = f"result_isl{ISL}_osl{OSL}_conc{conc}"
    measured = records if figures is None else figures
    assert measured is not None
    document = {
        "verdict": "PASSED",
        **{"isl": ISL, "osl": OSL, "conc": conc, "tp": 8, "gpus_used": 8},
        "engine": {"kind": "vllm", "version": "0.32.0", "model": "m"},
        "benchmark_args": {"random_range_ratio": 1.0, "num_prompts": len(measured), "seed": 0},
        **point_figures(measured, NO_GAPS, Gpus(8, 8)),
        "tput_per_gpu_ratio_vs_b200_1126": 1.0,
        **changed,
    }
    details = folder / name
    details.mkdir(parents=True)
    for file in (folder / f"{name}.json", details / "result.json"):
        file.write_text(json.dumps(document))
    config = {"seed": [seed, ISL, OSL, conc], "num_prompts": len(measured), "range_ratio": 1.0}
    (details / "manifest.json").write_text(json.dumps({"config": config}))
    if records is not None:
        records.tofile(details / "queries.bin")
        write_parquet(details / "queries.bin", details / "queries.parquet")
    return folder / f"{name}.json"


def run(*argv: str | Path) -> int:
    return main(load_profile(DEFAULT), [str(word) for word in argv], {})


def shown(capsys: pytest.CaptureFixture[str]) -> tuple[str, Mapping[str, Any], str]:
    """Standard output above its last line, that line, and standard error."""
    out, err = capsys.readouterr()
    lines = out.splitlines()
    return "\n".join(lines[:-1]), json.loads(lines[-1]), err


def test_the_faster_side_is_found_and_by_how_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for conc in (4, 8):
        write_result(tmp_path / "a", records_of(1), conc=conc)
        write_result(tmp_path / "b", records_of(2, faster=1.1), conc=conc)
    assert run(tmp_path / "a", tmp_path / "b", "--json", tmp_path / "found.json") == 0
    text, found, err = shown(capsys)
    assert found["verdict"].startswith("B is faster: throughput per GPU +")
    assert "over 2 points; interactivity +" in found["verdict"]
    assert found["verdict"] in text
    for point in found["points"]:
        assert point["resampling"] == "paired"
        for name, figure in point["figures"].items():
            truth = (
                1.1 if name in ("tput_per_gpu", "output_throughput", "interactivity") else 1 / 1.1
            )
            assert figure["interval"]["low"] < truth < figure["interval"]["high"], name
            assert figure["ratio"] == pytest.approx(figure["b"] / figure["a"])
    assert "not that between runs" in text
    assert err == ""
    assert json.loads((tmp_path / "found.json").read_text()) == found


def test_the_slower_side_is_told_with_better_and_worse_the_right_way_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (write_result(tmp_path / s, records_of(1, faster=f)) for s, f in (("a", 1), ("b", 0.8)))
    run(a, b)
    text, found, _ = shown(capsys)
    assert found["verdict"].startswith("B is slower: throughput per GPU -20.")
    rows = {line.split(",")[0].strip(): line for line in text.splitlines() if ", " in line}
    assert rows["throughput per GPU"].endswith("worse")
    assert rows["median E2EL"].endswith("worse")
    run(b, a)
    assert shown(capsys)[0].count("better") == 8


def test_no_difference_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (write_result(tmp_path / side, records_of(seed)) for side, seed in (("a", 1), ("b", 2)))
    run(a, b)
    _, found, _ = shown(capsys)
    assert found["verdict"].startswith("no difference that this many requests could show")


def test_a_gain_for_one_and_a_loss_for_the_other_is_no_victory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = np.exp(0.3 * np.random.default_rng(5).standard_normal(N))
    ours, theirs = timed(slow), timed(slow, first_ms=10, rest_ms=465)
    a, b = write_result(tmp_path / "a", ours), write_result(tmp_path / "b", theirs)
    run(a, b)
    _, found, _ = shown(capsys)
    assert found["verdict"].startswith("a mixed result: throughput per GPU +5.")
    assert "; interactivity -3." in found["verdict"]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random, trials = np.random.default_rng(3), 40
    truth = {"median_e2el_ms": 0.8, "tput_per_gpu": 1.25, "p99_ttft_ms": 0.8}
    covered = dict.fromkeys(truth, 0)
    for trial in range(trials):
        a, b = (_drawn(random, faster) for faster in (1.0, 1.25))
        draws = draw_ratios(a, b, paired=False, seed=(trial,))
        for name in truth:
            found = interval(draws[name] * (_figure(b, name) / _figure(a, name)))
            assert found is not None
            covered[name] += found.holds(truth[name])
    assert covered["median_e2el_ms"] >= 35
    assert covered["tput_per_gpu"] >= 35
    assert covered["p99_ttft_ms"] >= 24  # a bootstrap knows little of the extreme of few requests


def test_throughput_of_a_draw_follows_littles_law() -> None:
    """Answers as long as their requests took leave the throughput as it is, whatever is drawn."""
    took = np.random.default_rng(1).uniform(100, 900, N)
    even = Requests(ttft=took, tpot=took, e2el=took, tokens=3 * took, outputs=2 * took)
    draws = draw_ratios(even, even, paired=False, seed=(1,))
    for name in ("tput_per_gpu", "output_throughput"):
        assert draws[name] == pytest.approx(np.ones(2000))
    assert np.std(draws["median_e2el_ms"]) > 0.05


def _drawn(random: np.random.Generator, faster: float) -> Requests:
    return requests_of(timed(np.exp(0.2 * random.standard_normal(N)) / faster))


def _figure(requests: Requests, name: str) -> float:
    if name == "tput_per_gpu":
        return float(requests.tokens.sum() / requests.e2el.sum())
    if name == "median_e2el_ms":
        return float(np.median(requests.e2el))
    return float(np.percentile(requests.ttft, 99))


def test_the_same_prompts_are_drawn_together_and_that_narrows_the_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_result(tmp_path / "a", records_of(1))
    paired = write_result(tmp_path / "paired", records_of(2))
    other = write_result(tmp_path / "other", records_of(2), seed=9)
    widths = []
    for side, how in ((paired, "paired"), (other, "independent")):
        run(a, side)
        _, found, err = shown(capsys)
        (point,) = found["points"]
        assert point["resampling"] == how
        assert ("prompts are not the same" in err) == (how == "independent")
        span = point["figures"]["tput_per_gpu"]["interval"]
        widths.append(span["high"] - span["low"])
    assert widths[0] < widths[1] / 5


def test_the_same_twice_gives_the_same_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (write_result(tmp_path / side, records_of(seed)) for side, seed in (("a", 1), ("b", 2)))
    run(a, b)
    first = capsys.readouterr().out
    run(a, b)
    assert capsys.readouterr().out == first


def test_without_records_there_are_figures_and_no_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_result(tmp_path / "a", records_of(1))
    b = write_result(tmp_path / "b", None, figures=records_of(2, faster=1.5))
    run(a, b)
    _, found, err = shown(capsys)
    assert found["points"][0]["figures"]["tput_per_gpu"]["interval"] is None
    assert found["points"][0]["figures"]["tput_per_gpu"]["ratio"] == pytest.approx(1.5, rel=0.02)
    assert "nobody knows how much is noise" in found["verdict"]
    assert f"{b}: no records (queries.parquet)" in err


def test_records_of_another_run_and_too_few_of_them_are_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_result(tmp_path / "a", records_of(1))
    stale = write_result(tmp_path / "b", records_of(2)[:50], figures=records_of(2))
    run(a, stale)
    assert "are those of another run" in shown(capsys)[2]
    few = [write_result(tmp_path / side, records_of(2, n=7)) for side in ("c", "d")]
    run(*few)
    _, found, err = shown(capsys)
    assert "7 requests are too few" in err
    assert found["all_points"]["tput_per_gpu"]["interval"] is None


def test_what_has_not_passed_is_refused_unless_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_result(tmp_path / "a", records_of(1))
    b = write_result(tmp_path / "b", records_of(2), verdict="FAILED")
    with pytest.raises(ConfigError, match=r"b/result_\S+ \(FAILED\): not PASSED.*--any"):
        run(a, b)
    assert run(a, b, "--any") == 0
    text, found, _ = shown(capsys)
    assert "B is FAILED" in text
    assert found["verdict"].endswith("1 of the results have NOT PASSED")
    assert found["points"][0]["passed"] is False


def test_points_of_one_side_are_listed_and_two_strangers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side, concs in (("a", (4, 8)), ("b", (4, 16)), ("c", (32,))):
        for conc in concs:
            write_result(tmp_path / side, records_of(1), conc=conc)
    run(tmp_path / "a", tmp_path / "b")
    text, found, _ = shown(capsys)
    assert "only in A: 1024/64 CONC 8" in text
    assert found["only_in"]["B"] == [{"isl": ISL, "osl": OSL, "conc": 16}]
    with pytest.raises(ConfigError, match=r"no point in common: A has 1024/64 CONC 4.*CONC 32"):
        run(tmp_path / "a", tmp_path / "c")


def test_what_makes_it_unfair_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_result(tmp_path / "a", records_of(1))
    b = write_result(
        tmp_path / "b",
        records_of(2),
        tp=4,
        engine={"kind": "vllm", "version": "0.33.0"},
        benchmark_args={"random_range_ratio": 0.8, "num_prompts": 40, "seed": 1, "model": "n"},
        tput_per_gpu_ratio_vs_b200_1126=None,
    )
    run(a, b)
    _, found, err = shown(capsys)
    for text in (
        "tp: 8 in A, 4 in B",
        "engine: vllm 0.32.0 in A, vllm 0.33.0 in B",
        "range ratio: 1.0 in A, 0.8 in B",
        "num_prompts: 80 in A, 40 in B",
        "seed: 0 in A, 1 in B",
        "model: not stated in A, n in B",
    ):
        assert text in found["warnings"]
        assert f"WARNING: {text}\n" in err
    assert not any("baseline" in text for text in found["warnings"])


def test_a_results_own_folder_will_do_and_other_files_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_result(tmp_path / "a", records_of(1))
    b = write_result(tmp_path / "b", records_of(2))
    for kind in ("accuracy", "receipt", "submission"):
        b.with_name(f"{b.stem}.{kind}.json").write_text("{}")
    for side in (b.with_suffix(""), b.with_suffix("") / "result.json", b.parent):
        run(a, side)
        assert shown(capsys)[1]["points"][0]["resampling"] == "paired"


def test_the_same_point_of_two_tp_is_ambiguous(tmp_path: Path) -> None:
    for tp in (1, 2):
        write_result(tmp_path / f"tp{tp}", records_of(1), tp=tp)
    with pytest.raises(ConfigError, match=r"CONC 4 twice.*name the folder of one"):
        run(tmp_path, tmp_path / "tp1")


@pytest.mark.parametrize("content", [None, "[]", "{", '{"verdict": "PASSED"}'])
def test_what_is_no_result_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"x\.json: "):
        run(file, file)
    with pytest.raises(ConfigError, match="no results there"):
        run(tmp_path, tmp_path)
