"""What a worker is told when it starts, handed over in an anonymous file that it inherits."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from backends.detect import Address
from client.workers import expected_answer_tokens
from core.config import Routing, RunConfig, Timeouts


@dataclass(frozen=True, slots=True)
class Conduct:
    """How all the workers of a run behave."""

    backend: str
    model: str | None
    stream: bool
    expected_tokens: float  # of an answer, until some have been seen: what routing begins with
    routing: Routing
    drain_ms: float | None  # None: when it pays; 0: never
    timeouts: Timeouts
    max_concurrency: int | None  # requests in flight, of all workers together

    @classmethod
    def of(cls, config: RunConfig, backend: str, model: str | None) -> Conduct:
        """A LoadGen run's."""
        return cls(
            backend=backend,
            model=model,
            stream=config.scenario.is_timed,
            expected_tokens=expected_answer_tokens(config),
            routing=config.routing,
            drain_ms=config.drain_ms,
            timeouts=config.timeouts,
            max_concurrency=config.max_concurrency,
        )


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker's orders. The file descriptors are inherited from the main process."""

    number: int
    conduct: Conduct
    max_open: int  # requests in flight, of this worker
    replica_limit: int  # of these, to one replica, until told otherwise
    most_tokens: int  # of any answer
    replicas: tuple[Address, ...]
    cpus: tuple[int, ...]  # to run on; empty: any
    commands_fd: int
    results_fd: int
    bodies_fd: int  # the requests of all samples, one after another (client.prompts)
    index_fd: int  # what client.prompts.read_index reads
    n_samples: int

    @property
    def sweep_s(self) -> float:
        """How often time-outs are looked for: they are kept to within 5 %, or a second."""
        limits = self.conduct.timeouts
        shortest_s = min(
            limits.connect_s, limits.first_token_s, limits.between_tokens_s, limits.total_s
        )
        return min(1.0, shortest_s / 20)

    @property
    def inherited(self) -> tuple[int, ...]:
        return self.commands_fd, self.results_fd, self.bodies_fd, self.index_fd

    def write(self) -> int:
        """Put the spec into an anonymous file and return its descriptor."""
        fd = os.memfd_create(f"worker-{self.number}")
        os.write(fd, json.dumps(asdict(self)).encode())
        return fd

    @classmethod
    def read(cls, fd: int) -> WorkerSpec:
        fields = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
        fields["replicas"] = tuple(Address(**address) for address in fields["replicas"])
        conduct = fields["conduct"]
        fields["conduct"] = Conduct(**conduct | {"timeouts": Timeouts(**conduct["timeouts"])})
        fields["cpus"] = tuple(fields["cpus"])
        return cls(**fields)
