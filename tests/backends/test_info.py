"""What engines say of themselves: typed where they say it, None where they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backends.detect import describe, resolve
from backends.engines import Engines, probe
from backends.info import EngineInfo, cache_config, differences, sglang_info, vllm_info
from backends.vllm import VLLM
from core.rules import VOCABULARY
from tests.harness import emulator

URL = "http://a:1"
# A line of vLLM 0.32's, less some of its labels.
METRICS = b"""\
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="128",cache_dtype="fp8",enable_prefix_caching="True",engine="0",\
gpu_memory_utilization="0.92",kv_cache_size_tokens="1016800",name="a } \\" b",num_cpu_blocks="None"} 1.0
vllm:num_requests_running{engine="0",model_name="m"} 0.0
"""
MODELS = {"object": "list", "data": [{"id": "m", "max_model_len": 2048}]}
DEV: dict[str, Any] = {
    "vllm_config": {
        "model_config": {
            "dtype": "torch.bfloat16",
            "quantization": "mxfp4",
            "max_model_len": 2048,
        },
        "cache_config": {"enable_prefix_caching": False, "cache_dtype": "auto"},
        "scheduler_config": {
            "max_num_seqs": 1024, "max_num_batched_tokens": 8192, "stream_interval": 20,
        },
    }
}  # fmt: skip
SERVER: dict[str, Any] = {
    "model_path": "openai/gpt-oss-120b", "context_length": None, "version": "0.5.21",
    "dtype": "bfloat16", "kv_cache_dtype": "fp8_e4m3", "quantization": None,
    "disable_radix_cache": True, "stream_interval": 500, "incremental_streaming_output": False,
    "max_running_requests": None, "chunked_prefill_size": 16384, "dp_size": 1,
    "max_total_num_tokens": 2_000_000,
    "internal_states": [{"effective_max_running_requests_per_dp": 512}],
}  # fmt: skip


def vllm(metrics: bytes = METRICS, server: object = None) -> EngineInfo:
    return vllm_info(URL, {"version": "0.32.0"}, MODELS, metrics, server)


def sglang(**changes: Any) -> EngineInfo:
    model = {"model_path": "openai/gpt-oss-120b", "is_generation": True}
    return sglang_info(URL, model, SERVER | changes, {"data": [{"max_model_len": 131072}]})


def test_vllm_by_its_metric() -> None:
    info = vllm()
    assert (info.kind, info.version, info.model) == ("vllm", "0.32.0", "m")
    assert (info.context_length, info.kv_cache_dtype, info.kv_cache_tokens) == (
        2048,
        "fp8",
        1_016_800,
    )
    assert info.prefix_caching is True and info.incremental_streaming is True
    unknown = (info.dtype, info.quantization, info.stream_interval, info.max_running)
    assert unknown == (None, None, None, None)
    assert (info.max_batched_tokens, info.vocabulary) == (None, None)


def test_vllm_in_development_mode_says_more_and_is_believed_first() -> None:
    info = vllm(server=DEV)
    assert (info.dtype, info.quantization, info.vocabulary) == ("bfloat16", "mxfp4", None)
    assert (info.stream_interval, info.max_running, info.max_batched_tokens) == (20, 1024, 8192)
    assert info.prefix_caching is False and info.kv_cache_dtype == "auto"


def test_vllm_that_says_nothing_is_not_guessed_at() -> None:
    info = vllm_info(URL, None, None, b"", {"vllm_config": "model='m', dtype=torch.float16"})
    assert info == EngineInfo(
        URL, "vllm", None, None, None, incremental_streaming=True, details=info.details
    )


def test_labels_as_prometheus_writes_them() -> None:
    labels = cache_config(METRICS)
    assert labels["name"] == r"a } \" b" and labels["num_cpu_blocks"] == "None"
    assert cache_config(b"vllm:num_requests_running 1\n") == {}
    second = METRICS + METRICS.replace(b'"True"', b'"False"')
    assert cache_config(second)["enable_prefix_caching"] == "True"


def test_sglang() -> None:
    info = sglang()
    assert (info.kind, info.version, info.model) == ("sglang", "0.5.21", "openai/gpt-oss-120b")
    assert info.context_length == 131_072  # what it was not started with, it knows
    assert (info.dtype, info.kv_cache_dtype, info.quantization) == ("bfloat16", "fp8_e4m3", None)
    assert (info.prefix_caching, info.incremental_streaming) == (False, False)
    assert (info.stream_interval, info.max_running, info.max_batched_tokens) == (500, 512, 16384)
    assert info.kv_cache_tokens == 2_000_000 and info.vocabulary is None
    assert sglang(context_length=4096).context_length == 4096
    assert sglang(disable_radix_cache=False).prefix_caching is True
    assert sglang(disable_radix_cache=None).prefix_caching is None


@pytest.mark.parametrize(
    ("states", "dp_size", "started_with", "most"),
    [
        ([{"effective_max_running_requests_per_dp": 52}], 4, None, 208),
        ([{"effective_max_running_requests_per_dp": n} for n in (52, 50)], 2, None, 102),
        ([{"effective_max_running_requests_per_dp": 52}, {}], 2, 96, 96),
        ([], 1, 96, 96),
        (None, 1, None, None),
        ([{"effective_max_running_requests_per_dp": "many"}], 1, True, None),
    ],
)
def test_sglangs_running_requests_are_of_all_its_schedulers(
    states: object, dp_size: int, started_with: object, most: int | None
) -> None:
    info = sglang(internal_states=states, dp_size=dp_size, max_running_requests=started_with)
    assert info.max_running == most


@pytest.mark.parametrize("value", [True, 0, -1, 1.5, "x", [], {}, None])
def test_what_is_no_count_is_unknown(value: object) -> None:
    assert sglang(stream_interval=value).stream_interval is None


def test_replicas_that_are_alike_differ_in_nothing() -> None:
    assert differences([vllm(), replace(vllm(), url="http://b:1", details={"other": 1})]) == ()
    assert differences([vllm()]) == ()


def test_replicas_that_differ_are_named() -> None:
    other = replace(vllm(), url="http://b:2", version="0.31.0", prefix_caching=None)
    assert differences([vllm(), vllm(), other]) == (
        "the replicas differ in version: 0.32.0 (2: http://a:1), 0.31.0 (1: http://b:2)",
        "the replicas differ in prefix caching: on (2: http://a:1), unknown (1: http://b:2)",
    )


def engines(*infos: EngineInfo) -> Engines:
    return Engines(VLLM("m"), (), infos)


def test_what_all_replicas_say_together() -> None:
    on, off, unknown = (replace(vllm(), prefix_caching=value) for value in (True, False, None))
    assert engines(off, unknown, on).prefix_caching is True
    assert engines(off, unknown).prefix_caching is None
    assert engines(off, off).prefix_caching is False
    assert engines(vllm(), vllm()).stream_interval is None
    told = [replace(vllm(), stream_interval=n, vocabulary=n) for n in (20, 5)]
    assert engines(vllm(), *told).stream_interval == 5
    assert engines(vllm(), *told).vocabulary == 5
    assert engines(vllm()).vocabulary == VOCABULARY


def test_the_emulators_are_asked() -> None:
    flags = ("--max-running", "9", "--chunk", "4", "--context", "512")
    with emulator("--dialect", "sglang", "--incremental", *flags) as engine:
        info = describe(resolve(engine.url), 5)
    assert (info.kind, info.max_running, info.stream_interval) == ("sglang", 9, 4)
    assert (info.context_length, info.prefix_caching) == (512, False)
    assert info.incremental_streaming is True
    with emulator("--dialect", "vllm", "--prefix-cache", *flags) as engine:
        info = describe(resolve(engine.url), 5)
    assert (info.kind, info.max_running, info.stream_interval) == ("vllm", None, None)
    assert (info.context_length, info.prefix_caching) == (512, True)
    with emulator("--dialect", "vllm", "--dev-mode", *flags) as engine:
        info = probe([engine.url], "auto").infos[0]
    assert (info.max_running, info.stream_interval, info.dtype) == (9, 4, "bfloat16")
    assert "system_env" not in info.details["server_info"]
