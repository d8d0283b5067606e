"""The wanted numbers of real pages, and nothing that only looks like them."""

from __future__ import annotations

import pytest

from telemetry.prometheus import read_metrics
from telemetry.sample import SAMPLE, ReplicaSample
from tests.telemetry.pages import SGLANG, VLLM


def read(page: str) -> ReplicaSample:
    return read_metrics(page.encode(), 3, 17)


def test_vllm() -> None:
    assert read(VLLM) == ReplicaSample(
        3, 17, 1021, 3, 0.9371428571428572, 1_234_567, 640, 17, 8_765_432
    )


def test_sglang() -> None:
    assert read(SGLANG) == ReplicaSample(3, 17, 70, 2826, 0.28, 1024, 111, 48, 7_500_000)


def test_sglang_with_underscores() -> None:
    assert read(SGLANG.replace("sglang:", "sglang_")) == read(SGLANG)


def test_old_names_of_vllm_are_read_and_new_ones_win() -> None:
    old = VLLM.replace("vllm:kv_cache", "vllm:gpu_cache").replace("vllm:prefix", "vllm:gpu_prefix")
    assert read(old) == read(VLLM)
    both = 'vllm:gpu_cache_usage_perc{a="b"} 0.5\nvllm:kv_cache_usage_perc{a="b"} 0.25\n'
    assert read(both).kv_usage == 0.25


def test_several_engines_are_added_up_and_the_fullest_cache_counts() -> None:
    second = VLLM.replace('engine="0"', 'engine="1"').replace(" 0.9371", " 0.5")
    sample = read(VLLM + second)
    assert (sample.running, sample.waiting, sample.preemptions) == (2042, 6, 34)
    assert sample.kv_usage == 0.9371428571428572


@pytest.mark.parametrize(
    "page",
    [
        "",
        "# TYPE vllm:num_requests_running gauge\n",
        "vllm:num_requests_running NaN\n",
        "vllm:num_requests_running +Inf\n",
        "vllm:num_requests_running many\n",
        "xvllm:num_requests_running 4\n",
        "http_requests_total 4\n",
    ],
)
def test_what_is_not_shown_is_none(page: str) -> None:
    sample = read(page)
    assert sample == ReplicaSample(3, 17)
    assert not sample.exposed


@pytest.mark.parametrize(
    "line",
    [
        "vllm:num_requests_running 4",  # no labels, no end of line
        'vllm:num_requests_running{model_name="a } 7 \\" b"} 4.0',
        'vllm:num_requests_running{model_name="a"} 4 1795000000000',  # with a time stamp
    ],
)
def test_any_legal_line_is_read(line: str) -> None:
    assert read(line).running == 4


def test_a_sample_survives_the_pipe() -> None:
    samples = [read(VLLM), ReplicaSample(71, 1 << 60), ReplicaSample(0, 5, running=0)]
    data = b"".join(sample.pack() for sample in samples)
    assert len(data) == 3 * SAMPLE.size
    assert ReplicaSample.unpack_all(data) == samples
