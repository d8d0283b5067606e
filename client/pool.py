"""The main process's side of the workers: start them, hand out queries, collect results.

A worker that dies is data as well: its open queries come back with the outcome WORKER_LOST.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic_ns

from backends.detect import Address
from client.backlog import Backlog
from client.pacing import Pacing
from client.plan import ClientPlan
from client.process import Batch, WorkerProcess, fail_queries
from client.prompts import Prompts
from client.signals import deaf_children
from client.spec import Conduct, WorkerSpec
from client.wire import CANCEL_ALL, COMMAND, PIPE_BYTES, SET_LIMIT
from core.account import WorkerAccount
from core.errors import SetupError
from core.outcome import Outcome
from telemetry.sample import ReplicaSample
from telemetry.sampler import Sampler, sample_engines

UNLIMITED = 1 << 30
START_TIMEOUT_S = 60.0


class ClientPool:
    """All workers of a run. `submit` is LoadGen's thread's, `receive` the completion thread's.

    `pacing` is for runs whose queries are all due at once; without it they are sent when they come.
    """

    def __init__(
        self,
        workers: Sequence[WorkerProcess],
        prompts: Prompts,
        pacing: Pacing | None,
        sampler: Sampler | None,
    ) -> None:
        self.workers = workers
        self.samples: list[ReplicaSample] = []
        self._backlog = Backlog(prompts.lengths)
        self._pacing = pacing
        self._selector = selectors.DefaultSelector()
        self._next = 0
        self._lock = threading.Lock()  # commands longer than PIPE_BUF must not be interleaved
        self._cancelled = False
        for worker in workers:
            self._selector.register(worker.results_fd, selectors.EVENT_READ, worker)
        if sampler is not None:
            self._selector.register(sampler.fileno(), selectors.EVENT_READ, sampler)

    def submit(self, query_ids: Sequence[int], indexes: Sequence[int], due_ns: int) -> None:
        """Take queries that are due at `due_ns`."""
        with self._lock:
            if self._pacing is not None:
                self._backlog.put(query_ids, indexes, due_ns)
                self._fill()
                return
            n = len(self.workers)
            for offset in range(min(n, len(query_ids))):
                worker = self.workers[(self._next + offset) % n]
                worker.submit(query_ids[offset::n], indexes[offset::n], due_ns)
            self._next = (self._next + len(query_ids)) % n

    def _fill(self) -> None:
        if self._pacing is not None and len(self._backlog):
            n = len(self.workers)
            self._backlog.fill(
                self.workers, [share(sum(self._pacing.limits), n, i) for i in range(n)]
            )

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until every worker takes commands, lest its start count as lateness."""
        deadline = monotonic_ns() + int(timeout_s * 1e9)
        while not all(worker.ready for worker in self.workers):
            for _ in self.receive(0.1):
                pass
            if any(worker.lost for worker in self.workers) or monotonic_ns() > deadline:
                raise SetupError("a client worker did not start: see its message above")

    def receive(self, timeout_s: float) -> Iterator[Batch]:
        """What became of queries, one batch for each worker that says something. A batch is valid
        until the next."""
        for key, _ in self._selector.select(timeout_s):
            source = key.data
            if isinstance(source, WorkerProcess):
                batch = source.read()
                if batch is not None:
                    yield batch
                else:
                    self._selector.unregister(source.results_fd)
                    source.ended = True
                    source.lost = source.account is None
            else:
                self._sampled(source)
        if len(self._backlog):
            with self._lock:
                self._fill()
        yield from self._given_up()

    def _given_up(self) -> Iterator[Batch]:
        """Queries that no worker will report."""
        for worker in self.workers:
            # Not before all is read that it has written, or some would be reported twice.
            if worker.lost and worker.ended and worker.open:
                with self._lock:
                    batch = worker.fail_open(Outcome.WORKER_LOST, worker.obituary())
                yield batch
        if len(self._backlog):
            lost = all(worker.lost for worker in self.workers)
            if lost or self._cancelled:
                outcome = Outcome.WORKER_LOST if lost else Outcome.CANCELLED
                reason = "all client workers died" if lost else "interrupted before it was sent"
                with self._lock:
                    left = self._backlog.take_all()
                yield fail_queries(left, outcome, reason, set())

    def _sampled(self, sampler: Sampler) -> None:
        """Take what the engines said of themselves, and pace accordingly."""
        samples = sampler.read()
        self.samples += samples
        if sampler.ended:
            self._selector.unregister(sampler.fileno())
        if self._pacing is None:
            return
        n = len(self.workers)
        for replica, limit in self._pacing.observe(samples).items():
            for i, worker in enumerate(self.workers):
                with self._lock:
                    worker.command(COMMAND.pack(replica, 0, SET_LIMIT, share(limit, n, i)))

    def take_samples(self) -> list[ReplicaSample]:
        """What the engines have said since the last call; for one thread, which may be any."""
        taken = self.samples[:]
        del self.samples[: len(taken)]
        return taken

    def cancel(self) -> None:
        """Make every worker end its queries with CANCELLED."""
        with self._lock:
            self._cancelled = True
            for worker in self.workers:
                worker.command(COMMAND.pack(0, 0, CANCEL_ALL, 0))

    def close(self, timeout_s: float = 5.0) -> list[WorkerAccount]:
        """End the workers and return the accounts of themselves that those left who could."""
        self._pacing = None  # they take no more commands
        for worker in self.workers:
            with suppress(OSError):
                os.close(worker.commands_fd)
        deadline = monotonic_ns() + int(timeout_s * 1e9)
        pending = {worker.results_fd for worker in self.workers}
        while pending & set(self._selector.get_map()) and monotonic_ns() < deadline:
            for _ in self.receive(0.1):
                pass
        for worker in self.workers:
            worker.reap()
        self._selector.close()
        return [worker.account for worker in self.workers if worker.account is not None]


def share(total: int, n: int, i: int) -> int:
    """Worker i's part of a total that n workers share; at least 1."""
    return max(1, total // n + (i < total % n))


@contextmanager
def start_pool(
    conduct: Conduct,
    replicas: Sequence[Address],
    prompts: Prompts,
    plan: ClientPlan,
) -> Iterator[ClientPool]:
    """Run the workers, and who looks after the engines, for the duration of the block."""
    pacing = plan.pacing()
    limit = UNLIMITED if conduct.max_concurrency is None else conduct.max_concurrency
    most_tokens = int(prompts.limits.max(initial=0))
    n = plan.n_workers
    workers: list[WorkerProcess] = []
    with ExitStack() as stack:
        stack.callback(_kill, workers)
        with deaf_children():
            for number in range(n):
                commands_read, commands_write = os.pipe()
                results_read, results_write = os.pipe()
                enlarge([commands_write, results_write])
                spec = WorkerSpec(
                    number=number,
                    conduct=conduct,
                    max_open=share(limit, n, number),
                    replica_limit=share(pacing.limits[0], n, number) if pacing else UNLIMITED,
                    most_tokens=most_tokens,
                    replicas=tuple(replicas),
                    cpus=tuple(plan.cpus.workers) if plan.cpus else (),
                    commands_fd=commands_read,
                    results_fd=results_write,
                    bodies_fd=prompts.bodies_fd,
                    index_fd=prompts.index_fd,
                    n_samples=prompts.n_samples,
                )
                workers.append(WorkerProcess(spec, commands_write, results_read))
            urls = [replica.url for replica in replicas]
            sampler = stack.enter_context(sample_engines(urls))
        pool = ClientPool(workers, prompts, pacing, sampler)
        pool.wait_ready()
        with on_cpus(plan.cpus.loadgen if plan.cpus else None):
            yield pool


def _kill(workers: Iterable[WorkerProcess]) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


@contextmanager
def on_cpus(cpus: frozenset[int] | None) -> Iterator[None]:
    """Keep this thread, and those that it starts, on `cpus` for the duration of the block."""
    before = os.sched_getaffinity(0)
    if cpus is not None:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def enlarge(pipes: Iterable[int]) -> None:
    """A larger pipe means fewer writes cut in two; a limit on it costs speed only."""
    for fd in pipes:
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
