"""What an engine says of itself, as typed fields. None where it does not say: nothing is guessed.

SGLang tells its arguments at /server_info. vLLM tells them only in development mode
(VLLM_SERVER_DEV_MODE=1); otherwise the labels of one of its metrics, `cache_config_info`, are what
there is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CACHE_CONFIG = re.compile(rb"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
WORDS = {"true": True, "false": False}
# Replicas that differ in one of these are no longer the same engine several times.
COMPARED = (
    *("version", "model", "context_length", "dtype", "kv_cache_dtype", "quantization"),
    *("prefix_caching", "stream_interval", "incremental_streaming", "max_running"),
    *("max_batched_tokens", "vocabulary"),
)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What one replica says it is. None where it does not say."""

    url: str
    kind: str  # a key of BACKENDS
    version: str | None
    model: str | None
    context_length: int | None  # tokens, prompt and answer together
    dtype: str | None = None  # of the weights' arithmetic, e.g. "bfloat16"
    kv_cache_dtype: str | None = None
    quantization: str | None = None
    prefix_caching: bool | None = None
    stream_interval: int | None = None  # tokens of an event after the first
    incremental_streaming: bool | None = None  # False: every event repeats all ids
    max_running: int | None = None  # requests at once
    max_batched_tokens: int | None = None  # vLLM: of a step; SGLang: of a chunk of prefill
    kv_cache_tokens: int | None = None  # that the KV cache holds
    vocabulary: int | None = None
    details: dict[str, Any] = field(default_factory=dict)  # as it said it, less secrets


class Said:
    """A JSON object of an engine's, read with suspicion: a value of another type is no value."""

    def __init__(self, value: object) -> None:
        self._fields: Mapping[str, Any] = value if isinstance(value, dict) else {}

    def __getitem__(self, name: str) -> Said:
        return Said(self._fields.get(name))

    def each(self, name: str) -> list[Said]:
        values = self._fields.get(name)
        return [Said(value) for value in values] if isinstance(values, list) else []

    def number(self, name: str) -> int | None:
        """A count: positive, and also from a label's text."""
        value = self._fields.get(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return None
        return value

    def text(self, name: str) -> str | None:
        value = self._fields.get(name)
        return value if isinstance(value, str) and value not in ("", "None") else None

    def flag(self, name: str) -> bool | None:
        value = self._fields.get(name)
        if isinstance(value, str):
            return WORDS.get(value.lower())
        return value if isinstance(value, bool) else None


def sglang_info(url: str, model: object, server: object, models: object) -> EngineInfo:
    """From /model_info, /server_info and /v1/models."""
    said, about = Said(server), Said(model)
    served = next(iter(Said(models).each("data")), Said(None))
    radix_off = said.flag("disable_radix_cache")
    return EngineInfo(
        url=url,
        kind="sglang",
        version=said.text("version"),
        model=about.text("model_path") or said.text("model_path"),
        context_length=said.number("context_length") or served.number("max_model_len"),
        dtype=said.text("dtype"),
        kv_cache_dtype=said.text("kv_cache_dtype"),
        quantization=said.text("quantization"),
        prefix_caching=None if radix_off is None else not radix_off,
        stream_interval=said.number("stream_interval"),
        incremental_streaming=said.flag("incremental_streaming_output"),
        max_running=_sglang_running(said),
        max_batched_tokens=said.number("chunked_prefill_size"),
        kv_cache_tokens=said.number("max_total_num_tokens"),
        vocabulary=about.number("vocab_size") or said.number("vocab_size"),
        details={"model_info": model, "server_info": server},
    )


def _sglang_running(said: Said) -> int | None:
    """What its schedulers found room for, over all of them; else what it was started with."""
    name = "effective_max_running_requests_per_dp"
    found = [state.number(name) for state in said.each("internal_states")]
    each = [number for number in found if number is not None]
    if not each or len(each) < len(found):
        return said.number("max_running_requests")
    return sum(each) if len(each) > 1 else each[0] * (said.number("dp_size") or 1)


def vllm_info(
    url: str, version: object, models: object, metrics: bytes, server: object
) -> EngineInfo:
    """From /version, /v1/models, /metrics and, in development mode, /server_info as JSON."""
    served = next(iter(Said(models).each("data")), Said(None))
    labels = cache_config(metrics)
    config, cache = Said(server)["vllm_config"], Said(labels)
    model, kv, scheduler = (
        config["model_config"],
        config["cache_config"],
        config["scheduler_config"],
    )
    caching = kv.flag("enable_prefix_caching")
    return EngineInfo(
        url=url,
        kind="vllm",
        version=Said(version).text("version"),
        model=served.text("id"),
        context_length=served.number("max_model_len") or model.number("max_model_len"),
        dtype=(model.text("dtype") or "").removeprefix("torch.") or None,
        kv_cache_dtype=kv.text("cache_dtype") or cache.text("cache_dtype"),
        quantization=model.text("quantization"),
        prefix_caching=cache.flag("enable_prefix_caching") if caching is None else caching,
        stream_interval=scheduler.number("stream_interval"),
        incremental_streaming=True,  # it knows no other way
        max_running=scheduler.number("max_num_seqs"),
        max_batched_tokens=scheduler.number("max_num_batched_tokens"),
        kv_cache_tokens=cache.number("kv_cache_size_tokens"),
        details={"models": models, "cache_config": labels, "server_info": server},
    )


def cache_config(metrics: bytes) -> dict[str, str]:
    """The labels of vLLM's `cache_config_info`, those of the first engine; empty without it."""
    line = CACHE_CONFIG.search(metrics)
    return dict(LABEL.findall(line[1].decode("utf-8", "replace"))) if line else {}


def differences(infos: Sequence[EngineInfo]) -> tuple[str, ...]:
    """A sentence for each field in which the replicas are not alike."""
    found = []
    for name in COMPARED:
        urls: dict[object, list[str]] = {}
        for info in infos:
            urls.setdefault(getattr(info, name), []).append(info.url)
        if len(urls) > 1:
            parts = (f"{_word(value)} ({len(of)}: {of[0]})" for value, of in urls.items())
            found.append(f"the replicas differ in {name.replace('_', ' ')}: {', '.join(parts)}")
    return tuple(found)


def _word(value: object) -> str:
    if value is None:
        return "unknown"
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
