"""Pacing against simulated engines: fuller replicas, a shorter tail, and limits that come to rest."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from client.pacing import Pacing, cushion, first_limit

STEP_S = 0.1


@dataclass(frozen=True)
class Load:
    replica: int
    running: int | None
    waiting: int | None


@dataclass
class Engine:
    """Runs `max_running` requests at once, each of them `speed` tokens a second."""

    max_running: int
    speed: float
    admit: int = 1 << 30  # requests a step whose prompts it reads
    running: list[float] = field(default_factory=list)  # tokens that are left
    waiting: deque[int] = field(default_factory=deque)
    empty_s: float = 0.0  # places times seconds that stood empty

    @property
    def open(self) -> int:
        return len(self.running) + len(self.waiting)

    @property
    def empty(self) -> int:
        return self.max_running - len(self.running)

    def step(self) -> None:
        left = (tokens - self.speed * STEP_S for tokens in self.running)
        self.running = [tokens for tokens in left if tokens > 0]
        for _ in range(min(self.admit, self.empty, len(self.waiting))):
            self.running.append(self.waiting.popleft())
        self.empty_s += STEP_S * self.empty


@dataclass
class Simulation:
    """The harness gives each query to the replica with the fewest open among those with room."""

    engines: Sequence[Engine]
    pacing: Pacing
    sampled: bool = True
    limits: list[list[int]] = field(default_factory=list)  # after each second
    ends: list[float] = field(default_factory=list)  # when each replica had nothing left
    starved_s: float = 0.0  # places times seconds that stood empty while queries waited elsewhere

    def run(self, answers: Sequence[int]) -> float:
        """Seconds until the last answer."""
        queue, step = deque(answers), 0
        self.ends = [0.0] * len(self.engines)
        while queue or any(engine.open for engine in self.engines):
            self.dispatch(queue)
            step += 1
            for number, engine in enumerate(self.engines):
                engine.step()
                if engine.open:
                    self.ends[number] = step * STEP_S
            if any(engine.waiting for engine in self.engines):
                self.starved_s += STEP_S * sum(engine.empty for engine in self.engines)
            if step % 10 == 0:
                self.sample()
        return max(self.ends)

    def dispatch(self, queue: deque[int]) -> None:
        limits = self.pacing.limits
        while queue:
            room = [i for i, engine in enumerate(self.engines) if engine.open < limits[i]]
            if not room:
                return
            self.engines[min(room, key=lambda i: self.engines[i].open)].waiting.append(
                queue.popleft()
            )

    def sample(self) -> None:
        if self.sampled:
            self.pacing.observe(
                Load(i, len(engine.running), len(engine.waiting))
                for i, engine in enumerate(self.engines)
            )
        self.limits.append(self.pacing.limits)

    @property
    def tail_s(self) -> float:
        """Seconds in which a replica had nothing to do while another one worked, of all replicas."""
        return sum(max(self.ends) - end for end in self.ends)


def answers(n: int) -> list[int]:
    """Of 200 to 2,400 tokens. With a rare one of 10,000 it alone would make the tail."""
    draw = random.Random(11)
    return [draw.randint(200, 2400) for _ in range(n)]


def unequal() -> list[Engine]:
    """Two good GPUs, one that is throttled, one with little room for a KV cache."""
    return [Engine(256, 60.0), Engine(256, 60.0), Engine(256, 40.0), Engine(96, 60.0)]


def simulate(
    engines: list[Engine], n: int, *, sampled: bool, start: int = 1024, ceiling: int = 4096
) -> tuple[Simulation, float]:
    simulation = Simulation(engines, Pacing(len(engines), start, ceiling), sampled)
    return simulation, simulation.run(answers(n))


def test_no_replica_idles_while_another_has_a_queue() -> None:
    fixed, fixed_s = simulate(unequal(), 10_000, sampled=False)
    paced, paced_s = simulate(unequal(), 10_000, sampled=True)
    assert paced.starved_s < 0.01 * fixed.starved_s
    assert paced.tail_s < 0.5 * fixed.tail_s
    assert paced_s < 0.85 * fixed_s


def test_a_short_run_is_not_given_away_at_once() -> None:
    """Fewer queries than the replicas would hold: the limit must bind before it can be learned."""
    n, engines = 2000, unequal()
    fixed, fixed_s = simulate(unequal(), n, sampled=False)
    start = first_limit(1024, n, len(engines))
    paced, paced_s = simulate(engines, n, sampled=True, start=start)
    assert paced.starved_s < 0.01 * fixed.starved_s
    assert paced.tail_s < 0.5 * fixed.tail_s
    assert paced_s < 0.8 * fixed_s


@pytest.mark.parametrize(
    ("most", "n_queries", "n_replicas", "limit"),
    [(1024, 48_000, 8, 1024), (1024, 6396, 8, 400), (32, 100, 1, 32), (1024, 3, 8, 16)],
)
def test_the_first_limit(most: int, n_queries: int, n_replicas: int, limit: int) -> None:
    assert first_limit(most, n_queries, n_replicas) == limit


def test_replicas_stay_full_where_the_start_is_too_small() -> None:
    """An engine that could run 512 gets 64 at first."""
    fixed, fixed_s = simulate([Engine(512, 60.0)] * 1, 3000, sampled=False, start=64)
    paced, paced_s = simulate([Engine(512, 60.0)], 3000, sampled=True, start=64, ceiling=1024)
    assert paced_s < 0.4 * fixed_s
    assert paced.engines[0].empty_s < 0.4 * fixed.engines[0].empty_s


def test_a_slow_start_starves_nobody() -> None:
    """While prompts are read, few run and many wait: nothing may be lost by following that."""
    fixed, fixed_s = simulate([Engine(512, 60.0, admit=4)], 3000, sampled=False)
    paced, paced_s = simulate([Engine(512, 60.0, admit=4)], 3000, sampled=True)
    assert paced_s <= 1.02 * fixed_s
    assert paced.engines[0].empty_s <= 1.02 * fixed.engines[0].empty_s


@pytest.mark.parametrize("max_running", [512, 2048])
def test_what_an_engine_still_takes_it_gets_in_time(max_running: int) -> None:
    """A run as long as the engines are wide: seen on two H200, which read 30 prompts a second."""
    n, tokens = 2 * max_running, 512
    engines = [Engine(max_running, 26.0, admit=3) for _ in range(2)]
    start = first_limit(1024, n, len(engines))
    paced = Simulation(engines, Pacing(2, start, 4096))
    wide = Simulation([Engine(max_running, 26.0, admit=3) for _ in range(2)], Pacing(2, n, n))
    assert start < max_running
    assert paced.run([tokens] * n) <= 1.01 * wide.run([tokens] * n)
    assert max(paced.limits[-1]) < 2 * max_running


@pytest.mark.parametrize("start", [32, 300, 4096])
def test_limits_come_to_rest(start: int) -> None:
    paced, total_s = simulate(unequal(), 6000, sampled=True, start=start)
    quarter = paced.limits[len(paced.limits) // 4 : 3 * len(paced.limits) // 4]
    changes = sum(a != b for a, b in pairwise(quarter))
    assert total_s > 100 and changes <= 4
    for engine, limit in zip(paced.engines, quarter[-1], strict=True):
        room = limit - engine.max_running
        assert 0 < room <= 2 * cushion(engine.max_running)


def test_it_follows_an_engine_whose_room_shrinks_and_grows() -> None:
    """Longer answers fill the KV cache: fewer fit. Then shorter ones come."""
    pacing = Pacing(1, 1024, 4096)
    for room in (1000, 500, 500, 800):
        for _ in range(30):
            limit = pacing.limits[0]
            running = min(room, limit)
            pacing.observe([Load(0, running, limit - running)])
        assert room <= pacing.limits[0] <= room + 2 * cushion(room)


def observe(pacing: Pacing, *loads: tuple[int | None, int | None]) -> dict[int, int]:
    return pacing.observe([Load(0, *load) for load in loads])


def test_one_look_changes_nothing() -> None:
    pacing = Pacing(1, 100, 400)
    looks = ((100, 10), (50, 50), (100, 0), (50, 50), (100, 10), (100, 0))
    assert observe(pacing, *looks) == {}
    assert observe(pacing, (100, 0)) == {0: 116}


def test_a_replica_without_metrics_keeps_its_start() -> None:
    pacing = Pacing(2, 1024, 4096)
    assert observe(pacing, *[(None, None)] * 5, *[(64, 960)] * 2) == {0: 80}
    assert pacing.limits == [80, 1024]


def test_an_explicit_bound_is_kept() -> None:
    pacing = Pacing(1, 64, 64)
    assert observe(pacing, *[(64, 0)] * 9) == {}
    assert observe(pacing, *[(8, 56)] * 2) == {0: 24}
    assert observe(pacing, *[(24, 0), (24, 0), (40, 0), (60, 0), (64, 0)] * 3) == {0: 64}


def test_the_limit_is_never_zero() -> None:
    assert observe(Pacing(1, 0, 0), (0, 40), (0, 40)) == {}
    pacing = Pacing(1, 8, 8)
    observe(pacing, (0, 40), (0, 40))
    assert pacing.limits == [8]


def test_nothing_rises_when_the_work_runs_out() -> None:
    pacing = Pacing(1, 100, 400)
    assert observe(pacing, *[(60, 0)] * 5, *[(10, 0)] * 5) == {}
