"""Harmony: an answer's channels, found by token ids.

MLPerf's rule reads the decoded text: the first `<|channel|>final`, any run of characters other than
"<", `<|message|>`, then everything up to `<|return|>` or the end. Ids give the same section and
cannot be fooled by text that merely spells `<|channel|>`. But the reference evaluator is fooled by
it, and its number is the one that counts: where an answer spells a special token with plain ones
(`look_alike`), the text decides. Everywhere else both are the same, which a property test holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from accuracy.contract import Answer, Ids

_FINAL_TEXT = re.compile(r"<\|channel\|>final[^<]*<\|message\|>(.*?)(?:<\|return\|>|\Z)", re.DOTALL)
_FINAL_HEADER = re.compile(r"final[^<]*")
Decode = Callable[[Ids], str]


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of Harmony's special tokens; the defaults are gpt-oss's."""

    return_: int = 200002
    constrain: int = 200003
    channel: int = 200005
    start: int = 200006
    end: int = 200007
    message: int = 200008
    call: int = 200012
    endoftext: int = 199999


# The tokens that decide where the final section is, and how they are spelt.
MARKERS = {"channel": "<|channel|>", "message": "<|message|>", "return_": "<|return|>"}
GPT_OSS = SpecialIds()


def read_answer(ids: Ids, decode: Decode, special: SpecialIds = GPT_OSS) -> Answer:
    """Decode an answer and find its final section."""
    text = decode(ids).strip()
    look_alike = any(
        text.count(spelling) != np.count_nonzero(ids == getattr(special, name))
        for name, spelling in MARKERS.items()
    )
    final = final_by_text(text) if look_alike else final_by_ids(ids, decode, special)
    return Answer(ids, text, final, look_alike)


def final_by_text(text: str) -> str | None:
    """The rule as it is written."""
    found = _FINAL_TEXT.search(text)
    return found[1].strip() if found else None


def final_by_ids(ids: Ids, decode: Decode, special: SpecialIds = GPT_OSS) -> str | None:
    """The same section, by the ids of the special tokens."""
    messages = np.flatnonzero(ids == special.message)
    for channel in np.flatnonzero(ids == special.channel):
        after = messages[np.searchsorted(messages, channel) :]
        if len(after) and _FINAL_HEADER.fullmatch(decode(ids[channel + 1 : after[0]])):
            return _content(ids[after[0] + 1 :], decode, special)
    return None


def _content(ids: Ids, decode: Decode, special: SpecialIds) -> str:
    ends = np.flatnonzero(ids == special.return_)
    return decode(ids[: ends[0]] if len(ends) else ids).strip()
