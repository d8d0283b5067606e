"""How the client is set up for one run: processes, CPUs, open connections; what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from client.pacing import Pacing, first_limit
from client.preflight import (
    Connections,
    any_local,
    check,
    offline_connections,
    read_limits,
    require_room,
    room_per_replica,
    timed_connections,
)
from client.workers import (
    CpuSets,
    Rate,
    choose_workers,
    cpu_sets,
    expected_answer_tokens,
    expected_rate,
    spare_cores,
)
from core.config import RunConfig

HUNGRY_FACTOR = (
    4  # an engine that runs more than it is given at first may get up to this many times
)
STREAM_EVENTS_S = 200.0  # of one stream; engines that serve many at once are slower


@dataclass(frozen=True, slots=True)
class Targets:
    """What LoadGen was told that the client has to be ready for."""

    qps: float
    tokens_per_event: int
    ttft_limit_ns: int
    tpot_limit_ns: int
    n_queries: int  # that Offline issues


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """One run's client."""

    n_workers: int
    cpus: CpuSets | None  # None: too few to reserve any
    open_per_replica: int | None  # Offline: to begin with
    most_per_replica: int | None  # Offline: where engines ask for more
    n_replicas: int
    warnings: tuple[str, ...]

    def pacing(self) -> Pacing | None:
        """Offline's policy; None where queries are sent when they are due."""
        if self.open_per_replica is None or self.most_per_replica is None:
            return None
        return Pacing(self.n_replicas, self.open_per_replica, self.most_per_replica)


def plan_client(
    config: RunConfig, ips: Sequence[str], per_replica: int, targets: Targets
) -> ClientPlan:
    """Decide, and check this machine's limits. Raises SetupError for what cannot work.

    per_replica: the queries that an engine of this kind should have open in Offline.
    """
    n, limits = len(ips), read_limits()
    rate = expected_rate(config, targets.qps, targets.tokens_per_event)
    n_workers = choose_workers(config, n, spare_cores(), rate)
    first = most = None
    if config.scenario.is_timed:
        need = timed_connections(
            config,
            targets.qps,
            expected_answer_tokens(config),
            targets.ttft_limit_ns,
            targets.tpot_limit_ns,
            n_workers,
            ips,
        )
    else:
        need = offline_connections(config, per_replica, n_workers, ips, targets.n_queries)
        enough = -(-(config.max_concurrency or per_replica * n) // n)
        room = room_per_replica(limits, n_workers, n)
        most = enough if config.max_concurrency else min(HUNGRY_FACTOR * enough, room or 1 << 30)
        # With one replica there is nobody to keep queries for.
        first = first_limit(enough, targets.n_queries, n) if n > 1 else enough
    warnings = require_room(check(need, limits))
    return ClientPlan(
        n_workers=n_workers,
        cpus=cpu_sets(n_workers),
        open_per_replica=first,
        most_per_replica=most,
        n_replicas=n,
        warnings=tuple(finding.sentence for finding in warnings),
    )


def plan_concurrency(concurrency: int, ips: Sequence[str]) -> ClientPlan:
    """The client for a fixed number of streams, each followed by the next one (a closed loop).

    Raises SetupError for what cannot work on this machine.
    """
    rate = Rate(0.0, concurrency * STREAM_EVENTS_S)
    n_workers = max(1, min(rate.workers, spare_cores(), concurrency))
    need = Connections(concurrency, n_workers, len(ips), True, any_local(ips))
    warnings = require_room(check(need, read_limits()))
    return ClientPlan(
        n_workers=n_workers,
        cpus=cpu_sets(n_workers),
        open_per_replica=None,
        most_per_replica=None,
        n_replicas=len(ips),
        warnings=tuple(finding.sentence for finding in warnings),
    )
