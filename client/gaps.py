"""Counting the gaps between stream events: append on the hot path, a histogram now and then."""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

from core.histogram import N_BINS, count_durations

AT_ONCE = 8192


class GapCounter:
    """The distribution of the time between two arrivals of events of one stream (ITL by event)."""

    __slots__ = ("_counts", "_pending", "add")

    def __init__(self) -> None:
        self._counts = np.zeros(N_BINS, np.int64)
        self._pending = array("q")
        self.add = self._pending.append

    def fold(self, *, at_least: int = AT_ONCE) -> None:
        """Move what piled up into the histogram; called once a sweep, so not on the hot path."""
        if len(self._pending) >= at_least:
            self._counts += count_durations(np.frombuffer(self._pending, np.int64).copy())
            del self._pending[:]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        self.fold(at_least=1)
        return self._counts
