"""Every figure against a second, plain computation, and against the engine's own clock."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from backends.engines import Engines, probe
from competition.closed_loop import Loop, Nobody, run_closed_loop
from competition.metrics import Gpus, point_figures
from competition.profile import Lengths
from competition.prompts import PromptSet, make_prompts
from core.histogram import N_BINS, count_durations
from core.outcome import Outcome
from core.record import RECORD
from engine.emulator import Emulator, run_emulator
from results.records import Records, write_parquet
from results.streams import gap_counts

LENGTHS, N, CONCURRENCY = Lengths(128, 24), 24, 6
GPUS = Gpus(node=8, used=4)
TTFT_MS, ITL_MS = 300.0, 20.0


def prompts() -> PromptSet:
    return make_prompts(LENGTHS, N, ratio=0.5, vocabulary=1000, seed=(0,))


@pytest.fixture(scope="module")
def emulated() -> Iterator[Emulator]:
    with run_emulator("--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def engines(emulated: Emulator) -> Engines:
    return probe(emulated.urls, "auto")


@pytest.fixture(scope="module")
def loop(engines: Engines) -> Loop:
    return run_closed_loop(engines, prompts(), CONCURRENCY, Nobody())


def plain(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The definitions once more, without numpy, from the rows of queries.parquet."""
    good = [row for row in rows if row["outcome"] == "ok"]
    seconds = (max(r["done_ns"] for r in rows) - min(r["sent_ns"] for r in rows)) / 1e9
    inputs, outputs = (sum(r[k] for r in good) for k in ("prompt_tokens", "n_tokens"))
    found = {
        "completed": len(good),
        "duration": seconds,
        "total_input_tokens": inputs,
        "total_generated_tokens": outputs,
        "request_throughput": len(good) / seconds,
        "output_throughput": outputs / seconds,
        "total_token_throughput": (inputs + outputs) / seconds,
        "tput_per_gpu": (inputs + outputs) / seconds / 8,
        "tput_per_used_gpu": (inputs + outputs) / seconds / 4,
        "mean_itl_ms": sum(r["done_ns"] - r["first_token_ns"] for r in good)
        / sum(r["n_events"] - 1 for r in good)
        / 1e6,
    }
    values = {
        "ttft": [(r["first_token_ns"] - r["sent_ns"]) / 1e6 for r in good],
        "tpot": [(r["done_ns"] - r["first_token_ns"]) / (r["n_tokens"] - 1) / 1e6 for r in good],
        "e2el": [(r["done_ns"] - r["sent_ns"]) / 1e6 for r in good],
    }
    for name, each in values.items():
        cuts = statistics.quantiles(each, n=1000, method="inclusive")
        found |= {
            f"mean_{name}_ms": statistics.fmean(each),
            f"median_{name}_ms": statistics.median(each),
            f"std_{name}_ms": statistics.pstdev(each),
            **{f"p{p:g}_{name}_ms": cuts[round(10 * p) - 1] for p in (90, 95, 99, 99.9)},
        }
    return found | {"interactivity": 1000 / found["median_tpot_ms"]}


def test_figures_are_those_of_a_plain_computation(loop: Loop, tmp_path: Path) -> None:
    raw = tmp_path / "queries.bin"
    raw.write_bytes(loop.records.tobytes())
    write_parquet(raw, tmp_path / "queries.parquet")
    rows = pq.read_table(tmp_path / "queries.parquet").to_pylist()
    figures = point_figures(loop.records, gap_counts(loop.workers), GPUS)
    for name, value in plain(rows).items():
        assert figures[name] == pytest.approx(value, rel=1e-9), name


def test_figures_are_the_engines_own_within_one_percent(loop: Loop, emulated: Emulator) -> None:
    truth = [entry for entry in emulated.truth() if entry["finish"]]
    assert len(truth) == N
    ttft = statistics.median((t["first_ns"] - t["arrived_ns"]) / 1e6 for t in truth)
    e2el = statistics.median((t["done_ns"] - t["arrived_ns"]) / 1e6 for t in truth)
    spans = ((t["done_ns"] - t["first_ns"]) / (t["n_tokens"] - 1) / 1e6 for t in truth)
    figures = point_figures(loop.records, gap_counts(loop.workers), GPUS)
    assert figures["total_input_tokens"] == sum(t["prompt_tokens"] for t in truth)
    assert figures["total_output_tokens"] == sum(t["n_tokens"] for t in truth)
    assert figures["median_ttft_ms"] == pytest.approx(ttft, rel=0.01)
    assert figures["median_e2el_ms"] == pytest.approx(e2el, rel=0.01)
    assert figures["median_tpot_ms"] == pytest.approx(statistics.median(spans), rel=0.01)
    assert figures["mean_itl_ms"] == pytest.approx(ITL_MS, rel=0.01)
    assert figures["median_itl_ms"] == pytest.approx(ITL_MS, rel=0.05)


def test_no_more_than_conc_are_open_and_the_loop_keeps_it_full(loop: Loop) -> None:
    sent, done = np.sort(loop.records["sent_ns"]), np.sort(loop.records["done_ns"])
    open_then = [int((sent <= t).sum() - (done < t).sum()) for t in sent]
    assert max(open_then) == CONCURRENCY
    # From the first full moment until the last request is sent it never runs dry.
    assert min(open_then[CONCURRENCY - 1 :]) == CONCURRENCY


def test_each_answer_has_its_own_length(loop: Loop) -> None:
    wanted = np.array(prompts().output_lengths)[loop.records["index"]]
    assert (loop.records["n_tokens"] == wanted).all() and len(set(wanted.tolist())) > 3


def records(*rows: tuple[int, int, int, int, int, Outcome]) -> Records:
    """Of (sent, first, done in ms, prompt tokens, tokens, outcome)."""
    found = np.zeros(len(rows), RECORD)
    for record, (sent, first, done, prompt, tokens, outcome) in zip(found, rows, strict=True):
        record["sent_ns"], record["first_token_ns"] = sent * 1_000_000, first * 1_000_000
        record["done_ns"], record["prompt_tokens"] = done * 1_000_000, prompt
        record["n_tokens"] = record["n_events"] = tokens
        record["outcome"] = outcome
    return found


def test_a_failed_request_counts_for_the_time_and_for_nothing_else() -> None:
    figures = point_figures(
        records(
            (1000, 1100, 2100, 100, 11, Outcome.OK), (1000, 0, 5000, 100, 0, Outcome.HTTP_ERROR)
        ),
        np.zeros(N_BINS, np.int64),
        GPUS,
    )
    assert (figures["completed"], figures["failed_requests"]) == (1, 1)
    assert figures["duration"] == 4.0
    assert figures["total_token_throughput"] == 111 / 4
    assert (figures["median_ttft_ms"], figures["median_tpot_ms"]) == (100.0, 100.0)


def test_nothing_measured_is_none_and_never_zero_latency() -> None:
    figures = point_figures(
        records((1000, 0, 5000, 9, 0, Outcome.REFUSED)), np.zeros(N_BINS, np.int64), GPUS
    )
    assert figures["median_e2el_ms"] is figures["p99_itl_ms"] is figures["mean_ttft_ms"] is None
    assert figures["tput_per_gpu"] == 0 and figures["interactivity"] is None


def test_itl_percentiles_are_exact_to_a_quarter_percent() -> None:
    gaps = np.random.default_rng(1).lognormal(16, 0.7, 100_000).astype(np.int64)
    one = records((0, 10, 10 + 100, 1, 2, Outcome.OK))
    figures = point_figures(one, count_durations(gaps), GPUS)
    for name, value in (
        ("median", np.median(gaps)),
        ("std", gaps.std()),
        ("p90", np.percentile(gaps, 90)),
        ("p99", np.percentile(gaps, 99)),
    ):
        assert figures[f"{name}_itl_ms"] == pytest.approx(value / 1e6, rel=0.0025), name
