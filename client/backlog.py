"""Offline's queries that no worker has yet.

All of them are known at once, and MLPerf leaves their order to the SUT. The longest prompts go first,
so that what runs at the end is short; and they are handed out as others end, so that no worker's
replicas idle while another worker has a queue.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from client.process import WorkerProcess

AHEAD = 16  # a worker holds up to a 16th more than it may send: the next is there when one ends
PORTION = 32  # queries handed out at once


class Backlog:
    """A queue that workers with room are filled from. The caller locks."""

    def __init__(self, lengths: npt.NDArray[np.int32]) -> None:
        self._lengths = lengths
        self._ids: list[int] = []
        self._indexes: list[int] = []
        self._due_ns = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._ids) - self._next

    def put(self, query_ids: Sequence[int], indexes: Sequence[int], due_ns: int) -> None:
        """Take all queries of a test; they are due at `due_ns`. After those that are left."""
        order = np.argsort(-self._lengths[np.array(indexes)], kind="stable").tolist()
        self._ids = self._ids[self._next :] + [query_ids[i] for i in order]
        self._indexes = self._indexes[self._next :] + [indexes[i] for i in order]
        self._due_ns, self._next = due_ns, 0

    def fill(self, workers: Sequence[WorkerProcess], limits: Sequence[int]) -> None:
        """Hand out as many as fit. `limits`: open queries of each worker that is to be kept full."""
        left = len(self) > 0
        while left:
            left = False
            for worker, limit in zip(workers, limits, strict=True):
                room = limit + max(1, limit // AHEAD) - len(worker.open)
                if room >= min(PORTION, max(1, limit // AHEAD)) and len(self) and not worker.lost:
                    ids, indexes, due_ns = self._take(min(room, PORTION))
                    worker.submit(ids, indexes, due_ns)
                    left = len(self) > 0

    def take_all(self) -> list[tuple[int, int, int]]:
        """The queries (id, index, due_ns) that will not be sent."""
        ids, indexes, due_ns = self._take(len(self))
        return [(query_id, index, due_ns) for query_id, index in zip(ids, indexes, strict=True)]

    def _take(self, n: int) -> tuple[list[int], list[int], int]:
        start, self._next = self._next, min(self._next + n, len(self._ids))
        return self._ids[start : self._next], self._indexes[start : self._next], self._due_ns
