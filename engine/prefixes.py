"""What a prefix cache would have had: counted as vLLM counts it, in tokens of whole blocks.

Only the counts are emulated: no answer comes faster, nothing is ever evicted, and a prompt is there
as soon as it has been asked for.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

BLOCK = 16  # tokens


class PrefixCounter:
    def __init__(self) -> None:
        self.queries = self.hits = 0
        self._known: set[bytes] = set()  # prefixes of whole blocks

    def take(self, prompt: Sequence[int]) -> None:
        ids = array("i", prompt)
        found = True
        self.queries += len(ids)
        for end in range(BLOCK, len(ids), BLOCK):  # the last token is always computed
            prefix = ids[:end].tobytes()
            found = found and prefix in self._known
            self.hits += BLOCK * found
            self._known.add(prefix)

    def forget(self) -> None:
        self._known.clear()
