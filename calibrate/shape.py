"""What a run's engines look like to the client, as far as that decides what they cost it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backends.engines import Engines
from core.config import RunConfig


@dataclass(frozen=True, slots=True)
class Shape:
    """Engines to emulate."""

    dialect: str = "vllm"  # or "sglang"
    replicas: int = 1
    stream_interval: int = 1  # tokens of an event; vLLM does not say
    incremental: bool = False  # SGLang streams deltas


def shape_of(engines: Engines) -> Shape:
    """The shape of engines that have said what they are."""
    dialect = "sglang" if engines.backend.name == "sglang" else "vllm"
    server: Mapping[str, Any] = engines.infos[0].details.get("server_info") or {}
    return Shape(
        dialect,
        len(engines.addresses),
        engines.stream_interval,
        bool(server.get("incremental_streaming_output")),
    )


def shape_of_config(config: RunConfig) -> Shape:
    """The shape by the command line alone, for a dry run."""
    dialect = "sglang" if config.backend == "sglang" else "vllm"
    return Shape(dialect, max(1, len(config.server_urls)), incremental=True)
