"""Why a run, however well it went, is no MLPerf result. The rules' figures are in `core.rules`."""

from __future__ import annotations

from collections.abc import Iterator

from core import rules
from core.config import RunConfig


def reasons_unofficial(
    config: RunConfig, n_samples: int, engines: list[str], deviations: tuple[str, ...]
) -> tuple[str, ...]:
    """Each point in which a run left the rules; empty for one that could be submitted.

    `deviations` are those of LoadGen's settings, found by `sut.settings`.
    """
    return (*_dataset(config, n_samples), *_sampling(config), *_engines(engines), *deviations)


def _dataset(config: RunConfig, n_samples: int) -> Iterator[str]:
    wanted = rules.ACCURACY_SAMPLES if config.accuracy else rules.PERFORMANCE_SAMPLES
    if config.demonstration:
        yield "the bundled demonstration dataset"
    elif n_samples != wanted:
        yield f"{n_samples} samples, the rules want {wanted}"


def _sampling(config: RunConfig) -> Iterator[str]:
    sampling = config.sampling
    wanted = rules.ACCURACY_MAX_TOKENS if config.accuracy else rules.PERFORMANCE_MAX_TOKENS
    if sampling.max_tokens != wanted:
        yield f"--max-tokens {sampling.max_tokens}, the rules say {wanted}"
    if sampling.temperature != 1.0:
        yield f"--temperature {sampling.temperature:g}, the rules say 1"
    if sampling.top_p != 1.0:
        yield f"--top-p {sampling.top_p:g}, the rules say 1"
    if sampling.top_k > 0:
        yield f"--top-k {sampling.top_k}, the rules say off"


def _engines(engines: list[str]) -> Iterator[str]:
    if "embedded" in engines:
        yield "the embedded engine, a tiny model with random weights"
