"""The four time-outs of a request."""

from __future__ import annotations

from client.exchange import Exchange
from core.config import Timeouts
from core.outcome import Outcome


def overdue(
    exchange: Exchange, limits: Timeouts, now_ns: int, *, stream: bool
) -> tuple[Outcome, str] | None:
    """The outcome and reason of a request that took too long; None while it is within limits.

    An answer that is not streamed has no first token to wait for: only the total counts.
    """
    if exchange.sent_ns == 0:
        connecting_s = (now_ns - exchange.last_ns) / 1e9
        if connecting_s > limits.connect_s:
            return Outcome.CONNECT_TIMEOUT, f"not within {limits.connect_s:g} s"
        return None
    elapsed_s = (now_ns - exchange.sent_ns) / 1e9
    if elapsed_s > limits.total_s:
        return Outcome.TOTAL_TIMEOUT, f"no end within {limits.total_s:g} s"
    if not stream:
        return None
    if exchange.first_token_ns == 0:
        if elapsed_s > limits.first_token_s:
            return Outcome.FIRST_TOKEN_TIMEOUT, f"no token within {limits.first_token_s:g} s"
    elif (now_ns - exchange.last_ns) / 1e9 > limits.between_tokens_s:
        return Outcome.BETWEEN_TOKENS_TIMEOUT, f"silent for {limits.between_tokens_s:g} s"
    return None
