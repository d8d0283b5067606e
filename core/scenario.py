"""The three scenarios, and what MLPerf calls them."""

from __future__ import annotations

from enum import StrEnum


class Scenario(StrEnum):
    """How load is offered. Interactive is LoadGen's Server scenario with stricter latency limits."""

    OFFLINE = "offline"
    SERVER = "server"
    INTERACTIVE = "interactive"

    @property
    def loadgen_scenario(self) -> str:
        """The scenario's name in LoadGen's configuration files (case sensitive)."""
        return "Offline" if self is Scenario.OFFLINE else "Server"

    @property
    def loadgen_model(self) -> str:
        """The model's name in LoadGen's configuration: Interactive has a name of its own."""
        return "gpt-oss-120b-interactive" if self is Scenario.INTERACTIVE else "gpt-oss-120b"

    @property
    def is_timed(self) -> bool:
        """Whether TTFT and TPOT are limited, so that every answer must be streamed."""
        return self is not Scenario.OFFLINE
