"""What tests of this folder share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from client.signals import FOR_MAIN


@pytest.fixture
def handlers() -> Iterator[None]:
    """Of Ctrl-C and TERM: those that a test sets are gone after it."""
    before = {number: signal.getsignal(number) for number in FOR_MAIN}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
