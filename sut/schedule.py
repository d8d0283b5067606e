"""When each query of a Server run is due, computed as LoadGen does.

LoadGen does not tell its SUT the scheduled times, but they follow from the seed: std::mt19937 (whose
seed is cut to 32 bits), std::exponential_distribution over a 53-bit uniform number made of two draws
with the low word first, each gap cut to whole nanoseconds, the first query at zero. Checked on every
run against LoadGen's own `generated_query_duration`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK = 1 << 14


class Schedule:
    """Due times in nanoseconds from the first query's, computed in blocks as they are needed."""

    def __init__(self, target_qps: float, seed: int) -> None:
        generator = np.random.MT19937()
        generator._legacy_seeding(seed & 0xFFFF_FFFF)
        self._generator = generator
        self._qps = target_qps
        self._due: npt.NDArray[np.int64] = np.zeros(1, np.int64)
        self._extend()  # here, and not in the first query's callback

    def due_ns(self, number: int) -> int:
        """When query `number` is due; query n is also the end of the first n queries."""
        while number >= len(self._due):
            self._extend()
        return int(self._due[number])

    def _extend(self) -> None:
        words = self._generator.random_raw(2 * BLOCK).astype(np.float64)
        uniform = np.minimum((words[0::2] + words[1::2] * 2.0**32) / 2.0**64, 1 - 2.0**-53)
        gaps = (-np.log1p(-uniform) / self._qps * 1e9).astype(np.int64)
        self._due = np.concatenate([self._due, self._due[-1] + np.cumsum(gaps)])

    def count(self, min_duration_ns: int, min_queries: int, multiple_of: int) -> int:
        """How many queries LoadGen will issue: whole passes until duration and count are reached."""
        n = -(-max(min_queries, 1) // multiple_of) * multiple_of
        while self.due_ns(n) < min_duration_ns:
            n += multiple_of
        return n
