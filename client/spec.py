"""What a worker is told when it starts, handed over in an anonymous file that it inherits."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from backends.detect import Address
from core.config import Routing, Timeouts


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker's orders. The file descriptors are inherited from the main process."""

    number: int
    backend: str
    model: str | None
    stream: bool
    max_tokens: int
    max_open: int  # requests in flight, of this worker
    replica_limit: int  # of these, to one replica, until told otherwise
    routing: Routing
    drain_ms: float | None  # None: when it pays; 0: never
    replicas: tuple[Address, ...]
    timeouts: Timeouts
    cpus: tuple[int, ...]  # to run on; empty: any
    commands_fd: int
    results_fd: int
    bodies_fd: int  # the requests of all samples, one after another (client.prompts)
    index_fd: int  # int64 offsets of the bodies, n + 1 of them, then int32 prompt lengths
    n_samples: int

    @property
    def sweep_s(self) -> float:
        """How often time-outs are looked for: they are kept to within 5 %, or a second."""
        limits = self.timeouts
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
        fields["timeouts"] = Timeouts(**fields["timeouts"])
        fields["cpus"] = tuple(fields["cpus"])
        return cls(**fields)
