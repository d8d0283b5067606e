"""Why a run, however well it went, is no MLPerf result. The rules' figures are in `core.rules`."""

from __future__ import annotations

from collections.abc import Iterator

from core import rules
from core.config import RunConfig

OWN_ENGINES = ("+clock", "+model")  # what they add to the version that they imitate


def reasons_unofficial(
    config: RunConfig,
    n_samples: int,
    backend: str,
    versions: tuple[str, ...],
    deviations: tuple[str, ...],
) -> tuple[str, ...]:
    """Each point in which a run left the rules; empty for one that could be submitted.

    `deviations` are those of LoadGen's settings, found by `sut.settings`.
    """
    return (
        *_dataset(config, n_samples),
        *_sampling(config),
        *_engines(backend, versions),
        *deviations,
    )


def _dataset(config: RunConfig, n_samples: int) -> Iterator[str]:
    if config.audit is not None:
        return  # another number of samples is refused before the run
    wanted = rules.ACCURACY_SAMPLES if config.accuracy else rules.PERFORMANCE_SAMPLES
    if config.demonstration:
        yield "the bundled demonstration dataset"
    elif n_samples != wanted:
        yield f"{n_samples} samples, the rules want {wanted}"


def _sampling(config: RunConfig) -> Iterator[str]:
    sampling = config.sampling
    if config.audit is not None:
        return  # another number of samples is refused before the run
    wanted = rules.ACCURACY_MAX_TOKENS if config.accuracy else rules.PERFORMANCE_MAX_TOKENS
    if sampling.max_tokens != wanted:
        yield f"--max-tokens {sampling.max_tokens}, the rules say {wanted}"
    if sampling.temperature != 1.0:
        yield f"--temperature {sampling.temperature:g}, the rules say 1"
    if sampling.top_p != 1.0:
        yield f"--top-p {sampling.top_p:g}, the rules say 1"
    if sampling.top_k > 0:
        yield f"--top-k {sampling.top_k}, the rules say off"


def _engines(backend: str, versions: tuple[str, ...]) -> Iterator[str]:
    if backend == "embedded":
        yield "the embedded engine, a tiny model"
    elif any(version.endswith(OWN_ENGINES) for version in versions):
        yield "an engine of the harness's own, which only pretends"
