"""The main process's side of the sampler: start it, read its samples, end it.

The sampler's death is data that is missing, never an error: `read` gives nothing any more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from telemetry.sample import SAMPLE, ReplicaSample

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = SAMPLE.size * 1024
END_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Orders:
    """What the sampler is told, in an anonymous file that it inherits."""

    urls: tuple[str, ...]  # a replica's number is its place
    interval_s: float
    results_fd: int

    def write(self) -> int:
        """Put the orders into an anonymous file and return its descriptor."""
        fd = os.memfd_create("telemetry")
        os.write(fd, json.dumps(asdict(self)).encode())
        return fd

    @classmethod
    def read(cls, fd: int) -> Orders:
        fields = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
        return cls(tuple(fields["urls"]), fields["interval_s"], fields["results_fd"])


class Sampler:
    """A running sampler. Use it from one thread."""

    def __init__(self, urls: Sequence[str], interval_s: float) -> None:
        self._results_fd, results_write = os.pipe()
        orders_fd = Orders(tuple(urls), interval_s, results_write).write()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "telemetry", str(orders_fd)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            pass_fds=(orders_fd, results_write),
        )
        os.close(orders_fd)
        os.close(results_write)
        os.set_blocking(self._results_fd, False)
        self._rest = b""
        self.ended = False  # nothing more will come; `fileno` need not be watched any longer

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Readable when there are samples, and when the process has ended."""
        return self._results_fd

    def read(self) -> list[ReplicaSample]:
        """The samples since the last call, oldest first; never waits."""
        data = self._rest
        while not self.ended:
            try:
                new = os.read(self._results_fd, AT_ONCE)
            except BlockingIOError:
                break
            self.ended = not new
            data += new
        whole = len(data) - len(data) % SAMPLE.size
        self._rest = data[whole:]
        return ReplicaSample.unpack_all(data[:whole])

    def close(self) -> None:
        """End the process. Samples that were not read are lost."""
        if self._results_fd < 0:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._results_fd)
        self._results_fd, self.ended = -1, True


@contextmanager
def sample_engines(urls: Sequence[str], interval_s: float = 1.0) -> Iterator[Sampler]:
    """Look at every replica's `/metrics` once an interval for the duration of the block."""
    sampler = Sampler(urls, interval_s)
    try:
        yield sampler
    finally:
        sampler.close()
