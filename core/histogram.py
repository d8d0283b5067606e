"""A histogram of durations with logarithmic bins: small, mergeable, and exact to 0.24 %.

Gaps between stream events are too many to keep (tens of thousands a second), and only their
distribution is reported; everything that is one number per query is kept exactly instead.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS_PER_DECADE = 480
DECADES = 9  # 1 microsecond to 1000 seconds
EDGES_NS = 1e3 * 10 ** (np.arange(BINS_PER_DECADE * DECADES + 1) / BINS_PER_DECADE)
N_BINS = len(EDGES_NS) + 1


def count_durations(durations_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts per bin, shape (N_BINS,); the first and last bin take what lies outside."""
    return np.bincount(np.searchsorted(EDGES_NS, durations_ns, side="right"), minlength=N_BINS)


def histogram_percentile(counts: npt.NDArray[np.int64], percent: float) -> float | None:
    """The duration in nanoseconds below which `percent` of the counts lie; None without counts."""
    total = int(counts.sum())
    if total == 0:
        return None
    bin_index = int(np.searchsorted(np.cumsum(counts), total * percent / 100))
    low = EDGES_NS[max(bin_index - 1, 0)]
    high = EDGES_NS[min(bin_index, len(EDGES_NS) - 1)]
    return float(np.sqrt(low * high))
