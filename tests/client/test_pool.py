"""The pool with workers that the test plays: whatever happens, every query ends exactly once."""

from __future__ import annotations

import os
import select
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from client.backlog import AHEAD
from client.pacing import Pacing
from client.pool import ClientPool, share
from client.process import WorkerProcess
from client.prompts import Prompts
from client.spec import Conduct, WorkerSpec
from client.wire import CANCEL_ALL, COMMAND, SET_LIMIT, done_message, first_message
from core.config import Timeouts
from core.outcome import Outcome
from core.record import Completion

N = 200


class Process:
    """What is left of a subprocess.Popen where the test itself is the worker."""

    def __init__(self, *args: Any, pass_fds: tuple[int, ...], **more: Any) -> None:
        _, commands_fd, results_fd, *_ = pass_fds
        self.commands_fd, self.results_fd = os.dup(commands_fd), os.dup(results_fd)

    def poll(self) -> int:
        return -9

    def wait(self, timeout: float | None = None) -> int:
        return -9


class Played:
    """A worker's side of its two pipes."""

    def __init__(self, number: int) -> None:
        commands_read, commands_write = os.pipe()
        results_read, results_write = os.pipe()
        conduct = Conduct("vllm", None, False, 100, "least-tokens", None, Timeouts(), None)
        spec = WorkerSpec(
            number, conduct, 1 << 30, 1 << 30, 100, (), (), commands_read, results_write, 0, 0, N
        )
        self.worker = WorkerProcess(spec, commands_write, results_read)
        process: Any = self.worker.process
        self.commands_fd, self.results_fd = process.commands_fd, process.results_fd
        self.queries: list[int] = []  # those it was given
        self.limits: dict[int, int] = {}
        self.cancelled = False

    def read(self) -> list[int]:
        """Take what there is; the new queries."""
        new = []
        while select.select([self.commands_fd], [], [], 0)[0]:
            data = os.read(self.commands_fd, COMMAND.size)
            if not data:
                break
            query_id, _, index, value = COMMAND.unpack(data)
            if index == CANCEL_ALL:
                self.cancelled = True
            elif index == SET_LIMIT:
                self.limits[query_id] = value
            else:
                new.append(query_id)
        self.queries += new
        return new

    def answer(self, query_id: int) -> None:
        record = Completion(query_id, 0, 0).pack()
        os.write(self.results_fd, done_message(query_id, 0, 2, record, bytes(8)))

    def begin(self, query_id: int) -> None:
        os.write(self.results_fd, first_message(query_id, bytes(4)))

    def die(self, *, only_ears: bool = False) -> None:
        """Nobody reads its commands any more, and nothing more will come from it."""
        if self.commands_fd >= 0:
            os.close(self.commands_fd)
            self.commands_fd = -1
        if self.results_fd >= 0 and not only_ears:
            os.close(self.results_fd)
            self.results_fd = -1


class Game:
    """A pool, its workers, and what it said of its queries."""

    def __init__(self, n_workers: int, pacing: Pacing | None = None) -> None:
        self.played = [Played(number) for number in range(n_workers)]
        prompts = Prompts(-1, -1, np.arange(N, dtype=np.int32), np.full(N, 100, np.int32))
        self.pool = ClientPool([p.worker for p in self.played], prompts, pacing, None)
        self.ok: Counter[int] = Counter()
        self.failed: Counter[int] = Counter()
        self.outcomes: Counter[Outcome] = Counter()
        self.begun: set[int] = set()
        self.n_records = 0
        self.closed = False

    def submit(self, n: int = N, start: int = 0) -> None:
        ids = list(range(start, start + n))
        self.pool.submit(ids, ids, 5)

    def receive(self) -> None:
        for batch in self.pool.receive(0):
            self.ok.update(answer[0] for answer in batch.finals)
            self.failed.update(failure.query_id for failure in batch.failures)
            self.outcomes.update(Outcome(failure.outcome) for failure in batch.failures)
            self.begun |= {f.query_id for f in batch.failures if f.first_was_sent}
            self.n_records += len(batch.records)

    def ended_once(self, n: int = N) -> bool:
        ended = self.ok + self.failed
        return ended == Counter(range(n)) and self.n_records == n


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Game]]:
    monkeypatch.setattr(subprocess, "Popen", Process)
    games: list[Game] = []

    def play(*args: Any) -> Game:
        games.append(Game(*args))
        return games[-1]

    yield play
    for game in games:
        for played in game.played:
            played.die()
        if not game.closed:
            game.pool.close()


def test_timed_queries_take_turns(play: Callable[..., Game]) -> None:
    game = play(3)
    for i in range(9):
        game.submit(1, start=i)
    assert [played.read() for played in game.played] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    for played in game.played:
        for query_id in played.queries:
            played.answer(query_id)
    game.receive()
    assert game.ended_once(9) and not game.failed


def test_offline_is_handed_out_as_others_end(play: Callable[..., Game]) -> None:
    game = play(2, Pacing(1, 32, 32))
    game.submit()
    for played in game.played:
        played.read()
    assert [len(p.queries) for p in game.played] == [17, 17]  # 16 each, and one ahead
    assert {*game.played[0].queries, *game.played[1].queries} == set(range(N - 34, N))
    while sum(game.ok.values()) < N:
        for played in game.played:
            for query_id in played.queries:
                played.answer(query_id)
            played.queries = []
        game.receive()
        for played in game.played:
            assert len(played.read()) <= 16 + max(1, 16 // AHEAD)
    assert game.ended_once() and not game.failed


def test_a_worker_dies_and_what_it_had_said_counts(play: Callable[..., Game]) -> None:
    """Its answers are still in the pipe when LoadGen's thread finds that nobody reads commands."""
    game = play(2)
    game.submit(10)
    dying, living = game.played
    dying.read()
    for query_id in living.read():
        living.answer(query_id)
    game.receive()
    dying.answer(0)
    dying.begin(2)
    dying.die(only_ears=True)
    game.pool.submit([10, 11], [10, 11], 5)  # the pipe is found broken
    assert dying.worker.lost
    list(game.pool._given_up())  # as if it had died since `receive` looked at the pipes
    game.receive()
    dying.die()
    living.answer(11)
    game.receive()
    game.receive()
    assert game.ended_once(12)
    assert set(game.failed) == {2, 4, 6, 8, 10}
    assert game.outcomes == {Outcome.WORKER_LOST: 5}
    assert game.begun == {2}


def test_queries_for_a_worker_that_is_gone(play: Callable[..., Game]) -> None:
    game = play(2)
    game.played[0].die()
    game.receive()
    game.submit(10)
    for query_id in game.played[1].read():
        game.played[1].answer(query_id)
    game.receive()
    assert game.ended_once(10) and game.outcomes == {Outcome.WORKER_LOST: 5}


def test_one_worker_dies_with_a_backlog(play: Callable[..., Game]) -> None:
    game = play(2, Pacing(1, 32, 32))
    game.submit()
    dying, living = game.played
    dying.die()
    while sum((game.ok + game.failed).values()) < N:
        for query_id in living.read():
            living.answer(query_id)
        game.receive()
    assert game.ended_once() and game.outcomes == {Outcome.WORKER_LOST: 17}


def test_all_workers_die_with_a_backlog(play: Callable[..., Game]) -> None:
    game = play(2, Pacing(1, 32, 32))
    game.submit()
    for played in game.played:
        played.die()
    for _ in range(3):
        game.receive()
    assert game.ended_once() and game.outcomes == {Outcome.WORKER_LOST: N}


def test_cancel_with_a_backlog(play: Callable[..., Game]) -> None:
    """What is handed out in the meantime is the worker's to cancel; see test_worker."""
    game = play(1, Pacing(1, 32, 32))
    game.submit()
    (played,) = game.played
    game.pool.cancel()
    played.read()
    assert played.cancelled
    for _ in range(5):
        for query_id in played.queries:
            played.answer(query_id)
        played.queries = []
        game.receive()
        played.read()
    assert game.ended_once()
    assert game.outcomes[Outcome.CANCELLED] >= N - 3 * 34


def test_limits_reach_all_workers_and_open_room(play: Callable[..., Game]) -> None:
    pacing = Pacing(2, 16, 1000)
    game = play(3, pacing)
    game.submit()

    game.pool._sampled(hungry(1))
    for played in game.played:
        played.read()
    assert [played.limits for played in game.played] == [{1: share(32, 3, i)} for i in range(3)]
    before = sum(len(played.queries) for played in game.played)
    game.receive()
    assert sum(len(played.read()) for played in game.played) >= 16 - 3
    assert before <= 2 * 16 + 3


def hungry(replica: int) -> Any:
    """A sampler that has seen an engine twice that runs 16 and could run more."""
    load = SimpleNamespace(replica=replica, running=16, waiting=0)
    return SimpleNamespace(ended=False, read=lambda: [load, load])


def test_closing_says_nothing_to_workers(play: Callable[..., Game]) -> None:
    """Samples may come while they leave; their command pipes are closed."""
    game = play(1, Pacing(1, 16, 1000))
    game.submit()
    game.played[0].die()
    game.pool.close()
    game.closed = True
    game.pool._sampled(hungry(0))
    game.pool._fill()
