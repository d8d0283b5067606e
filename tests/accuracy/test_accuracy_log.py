"""Reading LoadGen's accuracy log, however it arrives."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy import log
from accuracy.log import EntryError, EntryFinder, parse_entry
from core.errors import ConfigError
from tests.accuracy.answers import encode, entry

ENTRIES = [entry(0, 2, encode("")), entry(1, 1, encode("ab")), entry(2, 0, encode("c" * 9))]
WHOLE = ("[\n" + ",\n".join(ENTRIES) + "\n]\n").encode()


@settings(max_examples=200, deadline=None)
@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=40), end=st.integers(0, len(WHOLE)))
def test_any_split_of_any_beginning(cuts: list[int], end: int) -> None:
    """The entries that are whole are found, and a log without its end is known as such."""
    data, at = WHOLE[:end], sorted({0, end, *(cut for cut in cuts if cut < end)})
    chunks = [data[a:b] for a, b in pairwise(at)]
    finder = EntryFinder(chunks)
    found = [data[span.offset :][: span.length].decode() for span in finder]
    assert found == [text for text in ENTRIES if WHOLE.index(text.encode()) + len(text) <= end]
    assert finder.closed == (b"]" in data)


@pytest.mark.parametrize(
    "data",
    [
        WHOLE.decode(),
        json.dumps(json.loads(WHOLE)),
        json.dumps(json.loads(WHOLE), indent=4).replace("\n", "\r\n"),
    ],
)
def test_any_layout(data: str) -> None:
    raw = data.encode()
    finder = EntryFinder([raw])
    entries = [parse_entry(raw[span.offset :][: span.length]) for span in finder]
    assert [(one.seq_id, one.qsl_idx) for one in entries] == [(0, 2), (1, 1), (2, 0)]
    assert entries[1].ids.tolist() == [97, 98]
    assert finder.closed


def test_logs_without_entries() -> None:
    empty = EntryFinder([b"[", b"\n", b"]"])
    assert list(empty) == []
    assert empty.closed
    nothing = EntryFinder([])
    assert list(nothing) == []
    assert not nothing.closed
    more = EntryFinder([b"[{}] {"])  # an entry begins after the end
    assert len(list(more)) == 1
    assert not more.closed


@pytest.mark.parametrize("data", [b"PAR1", b"[{} ... {}]", b"[{}] {}", b"hash=12"])
def test_what_is_no_log(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"give LoadGen's mlperf_log_accuracy\.json"):
        list(EntryFinder([data + b"]"], "x.json"))


def test_an_entry_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_MAX_ENTRY", 100)
    with pytest.raises(ConfigError, match="an entry without end"):
        list(EntryFinder([b'[{"data": "', b"A" * 100]))


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b'{"seq_id": 1, "qsl_idx": 2}', "data"),
        (b'{"seq_id": 1, "qsl_idx": 2, "data": "0"}', "not hexadecimal"),
        (b'{"seq_id": 1, "qsl_idx": 2, "data": "GG"}', "not hexadecimal"),
        (b'{"seq_id": 1, "qsl_idx": 2, "data": "0000000001"}', "5 bytes"),
        (b'{"seq_id": 1, "qsl_idx": "2", "data": ""}', "must be numbers"),
        (b'{"seq_id": 1, "qsl_idx": true, "data": ""}', "must be numbers"),
        (b'{"seq_id": 1, "qsl_idx": 2, "data": null}', "must be text"),
        (b'{"seq_id": 1,, "qsl_idx": 2}', "not an entry"),
    ],
)
def test_unusable_entries(raw: bytes, what: str) -> None:
    with pytest.raises(EntryError, match=what):
        parse_entry(raw)
