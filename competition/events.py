"""The server-sent events with which Gradio tells how a call ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

from core.errors import RunError

LINE_LIMIT = 1024 * 1024  # bytes
LAST = ("complete", "error")


@dataclass(frozen=True, slots=True)
class Event:
    """An event's name and its JSON data."""

    name: str
    data: object


def read_outcome(answer: HTTPResponse, timeout_s: float) -> Event:
    """The event that ends the call. Raises RunError for a stream that ends or lasts without it."""
    try:
        for event in _events(answer, time.monotonic() + timeout_s, timeout_s):
            if event.name in LAST:
                return event
    except TimeoutError:
        raise RunError(f"no answer within {timeout_s:g} s") from None
    except (OSError, HTTPException) as error:
        raise RunError(f"its answer broke off: {error}") from None
    raise RunError("its answer ended before the call did")


def _events(answer: HTTPResponse, deadline_s: float, timeout_s: float) -> Iterator[Event]:
    """Heartbeats keep a stream alive beyond the socket's own limit, so there is a deadline too."""
    name = ""
    while line := answer.readline(LINE_LIMIT):
        if time.monotonic() > deadline_s:
            raise RunError(f"no answer within {timeout_s:g} s")
        key, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
        if key == "event":
            name = value.strip()
        elif key == "data":
            yield Event(name, _data(value))


def _data(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()
