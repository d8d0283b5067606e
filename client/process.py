"""One worker as the main process sees it: its two pipes, and the queries that it holds.

Reading is zero-copy: results land in a buffer whose address is known, and a message's ids are given
to LoadGen as a pointer into it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from time import monotonic_ns
from typing import NamedTuple

from client.spec import WorkerSpec
from client.wire import COMMAND, DONE, FIRST, HEADER, PIPE_BYTES, READY, RECORD_SIZE
from core.account import WorkerAccount
from core.outcome import Outcome
from core.record import Completion

ROOT = Path(__file__).resolve().parent.parent
END_S = 1.0  # for a worker to leave by itself

Answer = tuple[int, int, int, int]  # query id, address of its ids, their bytes, its tokens


class Failure(NamedTuple):
    """The end of a query that has no answer."""

    query_id: int
    outcome: int
    first_was_sent: bool
    reason: str


@dataclass(slots=True)
class Batch:
    """What became of some queries; addresses are valid until the worker is read again."""

    firsts: list[Answer] = field(default_factory=list)  # first tokens
    finals: list[Answer] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)  # of all that have ended
    n_tokens: int = 0


def fail_queries(
    queries: Sequence[tuple[int, int, int]], outcome: Outcome, reason: str, started: set[int]
) -> Batch:
    """The end of queries (id, index, due_ns) that no worker can report any more."""
    batch, now_ns = Batch(), monotonic_ns()
    for query_id, index, due_ns in queries:
        batch.failures.append(Failure(query_id, outcome, query_id in started, reason))
        record = Completion(query_id, index, due_ns, done_ns=now_ns, outcome=outcome)
        batch.records.append(record.pack())
    return batch


class WorkerProcess:
    """A running worker."""

    def __init__(self, spec: WorkerSpec, commands_fd: int, results_fd: int) -> None:
        self.number = spec.number
        self.commands_fd = commands_fd
        self.results_fd = results_fd
        self.open: dict[int, tuple[int, int]] = {}  # query id -> (index, due_ns)
        self.account: WorkerAccount | None = None
        self.ready = False
        self.lost = False  # it died: no more queries for it
        self.ended = False  # it has written nothing that was not read, and will not
        self._started: set[int] = set()  # of these, the ones whose first token was reported
        # Room for the largest message; ids beyond a limit fail the query before they get here.
        self._buffer = bytearray(PIPE_BYTES + 4 * spec.most_tokens + HEADER.size + RECORD_SIZE)
        self._view = memoryview(self._buffer)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        self._position = self._filled = 0  # of the buffer: read up to, written up to
        spec_fd = spec.write()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "client", str(spec_fd)],
            pass_fds=(spec_fd, *spec.inherited),
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # numpy's threads would only wait
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )
        os.close(spec_fd)
        os.close(spec.commands_fd)
        os.close(spec.results_fd)

    def submit(self, query_ids: Sequence[int], indexes: Sequence[int], due_ns: int) -> None:
        """Hand over queries that are due at `due_ns`, in one write."""
        self.open.update(zip(query_ids, zip(indexes, repeat(due_ns), strict=False), strict=False))
        pack = COMMAND.pack
        self.command(
            b"".join(
                [
                    pack(query_id, due_ns, index, 0)
                    for query_id, index in zip(query_ids, indexes, strict=True)
                ]
            )
        )

    def command(self, data: bytes) -> None:
        """Write whole commands."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.commands_fd, view) :]
        except BrokenPipeError:
            self.lost = True  # its queries are ended by who reads its results

    def read(self) -> Batch | None:
        """What the worker has written; None at its end."""
        rest = self._buffer[self._position : self._filled]  # of a message that was not whole
        self._buffer[: len(rest)] = rest
        self._position, self._filled = 0, len(rest)
        count = os.readv(self.results_fd, [self._view[self._filled :]])
        if count == 0:
            return None
        self._filled += count
        return self._messages()

    def _messages(self) -> Batch:
        """Read the whole messages in the buffer."""
        batch = Batch()
        position, filled, buffer, address = 0, self._filled, self._buffer, self._address
        unpack, header_size, record_size = HEADER.unpack_from, HEADER.size, RECORD_SIZE
        started, records = self._started, batch.records
        while filled - position >= header_size:
            kind, outcome, size, query_id, n_tokens = unpack(buffer, position)
            start = position + header_size
            end = start + size
            if end > filled:
                break
            position = end
            if kind == DONE:
                self.open.pop(query_id, None)
                ids = start + record_size
                records.append(bytes(self._view[start:ids]))
                if outcome == 0:
                    batch.n_tokens += n_tokens
                    batch.finals.append((query_id, address + ids, end - ids, n_tokens))
                else:
                    reason = bytes(self._view[ids:end]).decode(errors="replace")
                    first = query_id in started
                    batch.failures.append(Failure(query_id, outcome, first, reason))
                started.discard(query_id)
            elif kind == FIRST:
                started.add(query_id)
                batch.firsts.append((query_id, address + start, size, n_tokens))
            elif kind == READY:
                self.ready = True
            else:
                self.account = WorkerAccount.from_json(bytes(self._view[start:end]))
        self._position = position
        return batch

    def fail_open(self, outcome: Outcome, reason: str) -> Batch:
        """End every query that the worker still holds."""
        held, self.open = self.open, {}
        queries = [(query_id, *rest) for query_id, rest in held.items()]
        return fail_queries(queries, outcome, reason, self._started)

    def obituary(self) -> str:
        code = self.process.poll()
        return f"client worker {self.number} died" + (f" (exit code {code})" if code else "")

    def reap(self) -> None:
        """End the process if it has not ended, and close what is left of it."""
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.results_fd)
