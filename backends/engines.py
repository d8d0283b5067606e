"""The engines of a run: asked what they are, or, without any, the embedded one started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from backends import create_backend
from backends.base import Backend
from backends.detect import DEFAULT_URL, Address, describe, resolve
from backends.embedded import embedded_engine
from backends.info import EngineInfo, differences
from backends.pages import at_once
from core.config import RunConfig
from core.errors import ConfigError, SetupError
from core.rules import VOCABULARY

PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Engines:
    """The replicas of a run and the dialect that they all speak."""

    backend: Backend
    addresses: tuple[Address, ...]
    infos: tuple[EngineInfo, ...]

    @property
    def context_length(self) -> int | None:
        lengths = [info.context_length for info in self.infos if info.context_length]
        return min(lengths, default=None)

    @property
    def vocabulary(self) -> int:
        """The number of ids that every replica knows; gpt-oss's where none says."""
        return min((info.vocabulary for info in self.infos if info.vocabulary), default=VOCABULARY)

    @property
    def model(self) -> str | None:
        return self.infos[0].model

    @property
    def versions(self) -> tuple[str, ...]:
        return tuple(info.version or "" for info in self.infos)

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(address.url for address in self.addresses)

    @property
    def stream_interval(self) -> int | None:
        """Tokens of a stream's event, the fewest of any replica; None where none says."""
        intervals = (info.stream_interval for info in self.infos)
        return min((number for number in intervals if number), default=None)

    @property
    def prefix_caching(self) -> bool | None:
        """Whether any replica has a prefix cache; None where none has, but not all say so."""
        said = {info.prefix_caching for info in self.infos}
        return True if True in said else None if None in said else False

    @property
    def differences(self) -> tuple[str, ...]:
        """In what the replicas are not alike, a sentence each."""
        return differences(self.infos)

    @property
    def title(self) -> str:
        version = self.infos[0].version or "unknown version"
        count = f" x {len(self.infos)}" if len(self.infos) > 1 else ""
        return f"{self.backend.name} {version}{count}"


@contextmanager
def open_engines(config: RunConfig, say: Callable[[str], None]) -> Iterator[Engines]:
    """The engines that the run measures; the embedded one lives as long as the block."""
    if config.server_urls:
        yield probe(config.server_urls, config.backend)
        return
    if config.backend != "embedded":
        try:
            engines = probe((DEFAULT_URL,), config.backend)
        except SetupError:
            if config.backend != "auto":
                raise
            say(
                f"no --server-url, and no engine at {DEFAULT_URL}: "
                "using the embedded engine, a tiny model on this machine's CPU"
            )
        else:
            yield engines
            return
    with embedded_engine() as url:
        yield probe((url,), "embedded")


def probe(urls: Sequence[str], name: str) -> Engines:
    """Ask every replica what it is; all must speak one dialect."""
    addresses = tuple(resolve(url) for url in urls)
    infos = tuple(at_once(lambda address: describe(address, PROBE_TIMEOUT_S), addresses))
    kinds = {info.kind for info in infos}
    if len(kinds) > 1:
        raise ConfigError(f"--server-url: the replicas are of different kinds: {sorted(kinds)}")
    kind = kinds.pop()
    if name in ("sglang", "vllm") and name != kind:
        raise ConfigError(f"--backend {name}: {urls[0]} answers as {kind}; use --backend {kind}")
    chosen = "embedded" if name == "embedded" else kind
    return Engines(create_backend(chosen, infos[0].model), addresses, infos)
