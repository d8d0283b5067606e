"""D: how far the client's instants are from the engine's own clock, query by query.

Both sides read CLOCK_MONOTONIC. A query and the engine's entry for it are matched by the prompt
(its length and the sum of its ids); of several queries with the same prompt the first one sent is
the first one that arrived, and a match in which it would have arrived before it was sent is an
error, not a figure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from results.records import Records

Floats = npt.NDArray[np.float64]
FIELDS = ("arrived_ns", "first_ns", "done_ns")


@dataclass(frozen=True, slots=True)
class Timing:
    """One value a query."""

    ttft_error_ms: Floats  # the client's TTFT, counted from when it was due, less the engine's
    tpot_error_percent: Floats  # without sign
    lateness_ms: Floats  # sent after due

    def figures(self, prefix: str) -> dict[str, float]:
        return {
            f"{prefix} ttft p50": float(np.percentile(self.ttft_error_ms, 50)),
            f"{prefix} ttft p99": float(np.percentile(self.ttft_error_ms, 99)),
            f"{prefix} tpot p99": float(np.percentile(self.tpot_error_percent, 99)),
            f"{prefix} late p99": float(np.percentile(self.lateness_ms, 99)),
        }


def lateness_ms(records: Records) -> Floats:
    return np.asarray((records["sent_ns"] - records["due_ns"]) / 1e6)


def compare(
    records: Records, prompts: npt.NDArray[np.int32], truth: Iterable[Mapping[str, Any]]
) -> Timing:
    """Match records with the truth log; prompts: a row of ids for each index of the dataset.

    Raises ValueError when they do not match one to one.
    """
    records = np.sort(records, order="sent_ns")
    sums = prompts.sum(axis=1, dtype=np.int64)
    if len(np.unique(sums)) != len(sums):
        raise ValueError("two prompts have the same sum: entries cannot be told apart")
    log = defaultdict(list)
    for entry in sorted(truth, key=lambda entry: int(entry["arrived_ns"]), reverse=True):
        log[entry["prompt_sum"]].append([entry[name] for name in FIELDS])
    try:
        matched = np.array([log[sums[index]].pop() for index in records["index"].tolist()])
    except IndexError:
        raise ValueError("the engine has no entry for a query") from None
    arrived, first, done = matched.T
    if (arrived < records["sent_ns"]).any() or any(log.values()):
        raise ValueError("the engine's entries are not the run's queries")
    ours, theirs = records["first_token_ns"] - records["due_ns"], first - arrived
    span = (records["done_ns"] - records["first_token_ns"]) / (done - first)
    return Timing(np.asarray((ours - theirs) / 1e6), np.abs(span - 1) * 100, lateness_ms(records))
