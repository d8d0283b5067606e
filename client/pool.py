"""The main process's side of the workers: start them, hand out queries, collect results.

Reading is zero-copy: results land in a buffer whose address is known, and a message's ids are given
to LoadGen as a pointer into it. A worker that dies is data as well: its open queries come back with
the outcome WORKER_LOST.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from time import monotonic_ns
from typing import Any

from backends.detect import Address
from client.prompts import Prompts
from client.spec import WorkerSpec
from client.wire import (
    CANCEL_ALL,
    COMMAND,
    DONE,
    FIRST,
    HEADER,
    PIPE_BYTES,
    READY,
    RECORD_SIZE,
)
from core.config import RunConfig
from core.errors import SetupError
from core.outcome import Outcome
from core.record import Completion

ROOT = Path(__file__).resolve().parent.parent
REPLICAS_PER_WORKER = 8
UNLIMITED = 1 << 30
START_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Event:
    """One message from a worker; `address` points at its `n_bytes` of ids until the next read."""

    query_id: int
    first: bool  # the first token is in; else the query has ended
    first_was_sent: bool
    outcome: int
    n_tokens: int
    address: int
    n_bytes: int
    record: bytes  # empty at the first token
    error: str = ""


class WorkerProcess:
    """One worker, its two pipes, and the queries it holds."""

    def __init__(self, spec: WorkerSpec, commands_fd: int, results_fd: int) -> None:
        self.number = spec.number
        self.commands_fd = commands_fd
        self.results_fd = results_fd
        self.open: dict[int, tuple[int, int]] = {}  # query id -> (index, due_ns)
        self.started: set[int] = set()  # of these, the ones whose first token was reported
        self.stats: dict[str, Any] | None = None
        self.ready = False
        self.lost = False
        # Room for the largest message; ids beyond max_tokens fail the query before they get here.
        self.buffer = bytearray(PIPE_BYTES + 4 * spec.max_tokens + HEADER.size + RECORD_SIZE)
        self.view = memoryview(self.buffer)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self.filled = 0
        spec_fd = spec.write()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "client", str(spec_fd)],
            pass_fds=(spec_fd, *spec.inherited),
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )
        os.close(spec_fd)
        os.close(spec.commands_fd)
        os.close(spec.results_fd)

    def command(self, data: bytes) -> bool:
        """Write whole commands; False when the worker is gone."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.commands_fd, view) :]
        except BrokenPipeError:
            return False
        return True

    def read(self) -> bool:
        """Take what the worker has written; False at its end."""
        count = os.readv(self.results_fd, [self.view[self.filled :]])
        self.filled += count
        return count > 0

    def messages(self) -> Iterator[Event]:
        """The whole messages in the buffer; a partial one moves to the front afterwards."""
        position, filled, buffer = 0, self.filled, self.buffer
        while filled - position >= HEADER.size:
            kind, outcome, size, query_id, n_tokens = HEADER.unpack_from(buffer, position)
            start = position + HEADER.size
            end = start + size
            if end > filled:
                break
            position = end
            if kind == FIRST:
                self.started.add(query_id)
                yield Event(
                    query_id, True, True, outcome, n_tokens, self.address + start, size, b""
                )
            elif kind == DONE:
                yield self._done(query_id, outcome, n_tokens, start, end)
            elif kind == READY:
                self.ready = True
            else:
                self.stats = json.loads(bytes(buffer[start:end]))
        buffer[: filled - position] = buffer[position:filled]
        self.filled = filled - position

    def _done(self, query_id: int, outcome: int, n_tokens: int, start: int, end: int) -> Event:
        self.open.pop(query_id, None)
        started = query_id in self.started
        self.started.discard(query_id)
        ids = start + RECORD_SIZE
        record = bytes(self.view[start:ids])
        event = Event(
            query_id,
            False,
            started,
            outcome,
            n_tokens,
            self.address + ids,
            end - ids,
            record,
        )
        if outcome != Outcome.OK:
            event.error = bytes(self.view[ids:end]).decode(errors="replace")
            event.n_bytes = 0
        return event

    def fail_open(self, outcome: Outcome, reason: str) -> Iterator[Event]:
        """End every query that the worker still holds."""
        held, self.open = self.open, {}
        for query_id, (index, due_ns) in held.items():
            event = failed_event(query_id, index, due_ns, outcome, reason)
            event.first_was_sent = query_id in self.started
            yield event


def failed_event(query_id: int, index: int, due_ns: int, outcome: Outcome, reason: str) -> Event:
    """The end of a query that no worker can report any more."""
    completion = Completion(query_id, index, due_ns, done_ns=monotonic_ns(), outcome=outcome)
    return Event(query_id, False, False, outcome, 0, 0, 0, completion.pack(), reason)


class ClientPool:
    """All workers of a run. `submit` is LoadGen's thread's, `receive` the completion thread's."""

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        self.workers = workers
        self._selector = selectors.DefaultSelector()
        self._next = 0
        self._lock = threading.Lock()  # commands longer than PIPE_BUF must not be interleaved
        for worker in workers:
            self._selector.register(worker.results_fd, selectors.EVENT_READ, worker)

    def submit(self, query_ids: Sequence[int], indexes: Sequence[int], due_ns: int) -> None:
        """Hand queries that are due at `due_ns` to the workers in turn, one write for each worker."""
        n = len(self.workers)
        for offset in range(min(n, len(query_ids))):
            worker = self.workers[(self._next + offset) % n]
            ids, rows = query_ids[offset::n], indexes[offset::n]
            worker.open.update(zip(ids, zip(rows, repeat(due_ns), strict=False), strict=False))
            commands = b"".join(
                COMMAND.pack(query_id, due_ns, row, 0)
                for query_id, row in zip(ids, rows, strict=True)
            )
            with self._lock:
                if not worker.command(commands):
                    worker.lost = True  # `receive` ends its queries
        self._next = (self._next + len(query_ids)) % n

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until every worker takes commands, lest its start count as lateness."""
        deadline = monotonic_ns() + int(timeout_s * 1e9)
        while not all(worker.ready for worker in self.workers):
            for _ in self.receive(0.1):
                pass
            if any(worker.lost for worker in self.workers) or monotonic_ns() > deadline:
                raise SetupError("a client worker did not start: see its message above")

    def receive(self, timeout_s: float) -> Iterator[list[Event]]:
        """Batches of events, one for each worker that has some. A batch is valid until the next."""
        for key, _ in self._selector.select(timeout_s):
            worker: WorkerProcess = key.data
            if worker.read():
                yield list(worker.messages())
            else:
                self._selector.unregister(worker.results_fd)
                worker.lost = worker.stats is None
        for worker in self.workers:
            if worker.lost and worker.open:
                yield list(worker.fail_open(Outcome.WORKER_LOST, self._obituary(worker)))

    def _obituary(self, worker: WorkerProcess) -> str:
        code = worker.process.poll()
        return f"client worker {worker.number} died" + (f" (exit code {code})" if code else "")

    def cancel(self) -> None:
        """Make every worker end its queries with CANCELLED."""
        with self._lock:
            for worker in self.workers:
                worker.command(COMMAND.pack(0, 0, CANCEL_ALL, 0))

    def close(self, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """End the workers and return the accounts they gave of themselves."""
        for worker in self.workers:
            with suppress(OSError):
                os.close(worker.commands_fd)
        deadline = monotonic_ns() + int(timeout_s * 1e9)
        while self._selector.get_map() and monotonic_ns() < deadline:
            for _ in self.receive(0.1):
                pass
        for worker in self.workers:
            self._reap(worker)
        self._selector.close()
        return [worker.stats for worker in self.workers if worker.stats is not None]

    def _reap(self, worker: WorkerProcess) -> None:
        try:
            worker.process.wait(1.0)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        os.close(worker.results_fd)


def choose_workers(config: RunConfig, n_replicas: int) -> int:
    """One worker drives about 50,000 events a second; more of them than spare cores only hurt."""
    if config.num_workers is not None:
        return config.num_workers
    spare = max(1, (os.cpu_count() or 2) - 1)
    return min(spare, -(-n_replicas // REPLICAS_PER_WORKER))


@contextmanager
def start_pool(
    config: RunConfig,
    backend: str,
    model: str | None,
    replicas: Sequence[Address],
    prompts: Prompts,
    max_concurrency: int | None,
) -> Iterator[ClientPool]:
    """Run the workers for the duration of the block."""
    n = choose_workers(config, len(replicas))
    share = UNLIMITED if max_concurrency is None else max(1, -(-max_concurrency // n))
    workers = []
    for number in range(n):
        commands_read, commands_write = os.pipe()
        results_read, results_write = os.pipe()
        enlarge([commands_write, results_write])
        spec = WorkerSpec(
            number=number,
            backend=backend,
            model=model,
            stream=config.scenario.is_timed,
            max_tokens=config.sampling.max_tokens,
            max_open=share,
            routing=config.routing,
            replicas=tuple(replicas),
            timeouts=config.timeouts,
            commands_fd=commands_read,
            results_fd=results_write,
            bodies_fd=prompts.bodies_fd,
            index_fd=prompts.index_fd,
            n_samples=prompts.n_samples,
        )
        workers.append(WorkerProcess(spec, commands_write, results_read))
    pool = ClientPool(workers)
    try:
        pool.wait_ready()
        yield pool
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()


def enlarge(pipes: Iterable[int]) -> None:
    """A larger pipe means fewer writes cut in two; a limit on it costs speed only."""
    for fd in pipes:
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
