"""What a run's engines look like to the client, as far as that decides what they cost it."""

from __future__ import annotations

from dataclasses import dataclass

from backends.engines import Engines
from core.config import RunConfig


@dataclass(frozen=True, slots=True)
class Shape:
    """Engines to emulate."""

    dialect: str = "vllm"  # or "sglang"
    replicas: int = 1
    stream_interval: int = 1  # tokens of an event; vLLM says it in development mode only
    incremental: bool = False  # SGLang streams deltas


def shape_of(engines: Engines) -> Shape:
    """The shape of engines that have said what they are."""
    dialect = "sglang" if engines.backend.name == "sglang" else "vllm"
    return Shape(
        dialect,
        len(engines.addresses),
        engines.stream_interval or 1,
        bool(engines.infos[0].incremental_streaming),
    )


def shape_of_config(config: RunConfig) -> Shape:
    """The shape by the command line alone, for a dry run."""
    dialect = "sglang" if config.backend == "sglang" else "vllm"
    return Shape(dialect, max(1, len(config.server_urls)), incremental=True)
