"""Counting durations: append on the hot path, a histogram now and then."""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

from core.histogram import N_BINS, count_durations


class GapCounter:
    """A distribution of durations: gaps between events of one stream (ITL by event), or turns."""

    __slots__ = ("_counts", "_folded", "add", "pending")

    def __init__(self) -> None:
        self._counts = np.zeros(N_BINS, np.int64)
        self._folded = 0
        self.pending = array("q")  # nanoseconds
        self.add = self.pending.append

    def fold(self) -> None:
        """Move what piled up into the histogram; by a timer, so that it never becomes much."""
        if self.pending:
            self._folded += len(self.pending)
            self._counts += count_durations(np.frombuffer(self.pending, np.int64).copy())
            del self.pending[:]

    @property
    def total(self) -> int:
        return self._folded + len(self.pending)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        self.fold()
        return self._counts
