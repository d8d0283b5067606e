"""The endpoints that clients submit to, beside the page's own.

`submit_results` takes exactly the values, in the order, of the competition's own program, which
therefore works against this leaderboard: its signature is that list. `submit_document` takes a
whole result file. Gradio reads both from the type hints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from competition.leaderboard.desk import Desk, Sender
from competition.profile import Lengths
from core.errors import ConfigError

BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Senders:
    """Knows who sends a request; behind_proxy: whether a proxy's own headers can be believed."""

    behind_proxy: bool

    def of(self, request: gr.Request, token: str | None = None) -> Sender:
        headers = request.headers
        given = headers.get("authorization", "")
        bearer = given[len(BEARER) :].strip() if given.lower().startswith(BEARER) else None
        scheme = self._last(headers, "x-forwarded-proto") or request.url.scheme
        host = self._last(headers, "x-forwarded-host") or headers.get("host", "")
        address = self._last(headers, "x-forwarded-for") or request.client.host
        return Sender(address, token or bearer, f"{scheme}://{host}")

    def _last(self, headers: Any, name: str) -> str:
        """What the nearest proxy wrote; all before it may be the client's invention."""
        return headers.get(name, "").rpartition(",")[2].strip() if self.behind_proxy else ""


class Board(gr.Blocks):  # type: ignore[misc]
    """Blocks whose endpoints take as many values as they name: Gradio ignores those beyond."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        wanted = len(block_fn.inputs)
        if len(inputs) != wanted:
            message = f"{len(inputs)} values; this leaderboard takes {wanted}"
            raise gr.Error(message, print_exception=False)


def add_endpoints(desk: Desk, senders: Senders, lengths: Lengths | None) -> None:
    """To the Blocks in whose context this is called. Without lengths a bare list is refused."""

    def submit_document(team: str, document: str, request: gr.Request) -> dict[str, Any]:
        return _answer(lambda: desk.take_document(team, document, senders.of(request), lengths))

    def take(values: tuple[Any, ...], request: gr.Request) -> dict[str, Any]:
        return _answer(lambda: desk.take_values(values, lengths, senders.of(request)))

    def submit_perplexities(
        team: str,
        concurrency: float,
        median_e2e_ms: float,
        tput_per_gpu: float,
        baseline_median_e2e_ms: float,
        baseline_tput_per_gpu: float,
        e2e_ratio: float,
        tput_ratio: float,
        interactivity: float,
        baseline_interactivity: float,
        interactivity_ratio: float,
        bits_per_byte: float,
        byte_perplexity: float,
        word_perplexity: float,
        request: gr.Request,
    ) -> dict[str, Any]:
        figures = (team, concurrency, median_e2e_ms, tput_per_gpu)
        latency_and_tput = (baseline_median_e2e_ms, baseline_tput_per_gpu, e2e_ratio, tput_ratio)
        interactive = (interactivity, baseline_interactivity, interactivity_ratio)
        accuracy = (bits_per_byte, byte_perplexity, word_perplexity)
        return take((*figures, *latency_and_tput, *interactive, *accuracy), request)

    def submit_gsm8k(
        team: str,
        concurrency: float,
        median_e2e_ms: float,
        tput_per_gpu: float,
        baseline_median_e2e_ms: float,
        baseline_tput_per_gpu: float,
        e2e_ratio: float,
        tput_ratio: float,
        interactivity: float,
        baseline_interactivity: float,
        interactivity_ratio: float,
        gsm8k: float,
        request: gr.Request,
    ) -> dict[str, Any]:
        figures = (team, concurrency, median_e2e_ms, tput_per_gpu)
        latency_and_tput = (baseline_median_e2e_ms, baseline_tput_per_gpu, e2e_ratio, tput_ratio)
        interactive = (interactivity, baseline_interactivity, interactivity_ratio)
        return take((*figures, *latency_and_tput, *interactive, gsm8k), request)

    perplexities = desk.profile.accuracy.kind == "perplexity"
    _add(submit_document)
    _add(submit_perplexities if perplexities else submit_gsm8k, "submit_results")


def _add(function: Callable[..., Any], name: str | None = None) -> None:
    gr.api(function, api_name=name or function.__name__, api_description=False)


def _answer(take: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return take()
    except ConfigError as error:
        raise gr.Error(str(error), print_exception=False) from None
