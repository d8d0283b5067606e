"""`python -m client FD`: one client process; FD is the file that holds its WorkerSpec.

It is started with Ctrl-C and TERM blocked (client.signals): the main process tells it when to end.
"""

from __future__ import annotations

import gc
import os
import resource
import sys

from client.spec import WorkerSpec
from client.worker import Worker


def raise_file_limit() -> None:
    """Every open request is a socket; the soft limit is often 1024 where the hard one is high."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    raise_file_limit()
    spec = WorkerSpec.read(int(sys.argv[1]))
    if spec.cpus:
        os.sched_setaffinity(0, spec.cpus)
    worker = Worker(spec)
    gc.freeze()
    gc.disable()  # the hot path leaves no cycles, and a collection would be a pause
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
