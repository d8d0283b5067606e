"""Every event format of the real engines, through the client's own reading, in several splits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from backends import create_backend
from backends.base import Answer, AnswerError
from client.exchange import Exchange
from core.outcome import Finish, Outcome

GOLDEN = Path(__file__).parents[1] / "golden" / "events"
EXPECTED: dict[str, dict[str, Any]] = json.loads((GOLDEN / "expected.json").read_text())


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def ends(data: bytes, into: int) -> list[int]:
    """Where events end, or so many bytes into their ends."""
    return [found.start() + into for found in re.finditer(rb"\n\n", data)]


SPLITS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": lambda data: [data],
    "bytes": lambda data: cut(data, range(len(data))),
    "sevens": lambda data: cut(data, range(0, len(data), 7)),
    "packets": lambda data: cut(data, range(0, len(data), 1460)),
    "events": lambda data: cut(data, ends(data, 2)),
    "inside the blank lines": lambda data: cut(data, ends(data, 1)),
    "anywhere": lambda data: cut(data, Random(len(data)).sample(range(len(data)), 12)),
}


def receive(name: str, pieces: list[bytes]) -> tuple[Answer, Exchange]:
    """What client.connection does with the reads of one answer. Raises AnswerError."""
    expected = EXPECTED[name]
    reader = create_backend(name.partition("_")[0]).reader()
    exchange = Exchange(1, 0, 0, expected["prompt_tokens"], reader)
    for now, piece in enumerate(pieces, 1):
        assert not exchange.ended
        if not exchange.cheap:
            exchange.read(piece, now)
        elif exchange.put_aside(piece):
            exchange.read(b"", now)
    if not exchange.ended:
        exchange.close(len(pieces))
    return exchange.finish(expected["max_tokens"], stream="_plain" not in name), exchange


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_real_engine_sends_is_read_as_it_is_meant(name: str, split: str) -> None:
    data, expected = (GOLDEN / f"{name}.http").read_bytes(), EXPECTED[name]
    pieces = SPLITS[split](data)
    assert b"".join(pieces) == data
    if "outcome" in expected:
        with pytest.raises(AnswerError) as caught:
            receive(name, pieces)
        assert caught.value.outcome is Outcome[expected["outcome"]]
        assert expected["detail"] in caught.value.detail
        return
    answer, exchange = receive(name, pieces)
    assert np.frombuffer(answer.ids, "<i4").tolist() == expected["ids"]
    assert answer.finish is Finish[expected["finish"].upper()]
    assert answer.completion_tokens == exchange.n_tokens == len(expected["ids"])
    assert answer.prompt_tokens == expected["prompt_tokens"]
    assert exchange.status == 200
    if "_plain" not in name:
        assert 0 < exchange.first_token_ns <= exchange.done_ns
        assert 0 < exchange.n_events <= exchange.n_tokens


def test_every_file_has_an_expectation() -> None:
    assert {path.stem for path in GOLDEN.glob("*.http")} == set(EXPECTED)
