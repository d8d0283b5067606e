"""`python -m client FD`: one client process; FD is the file that holds its WorkerSpec.

It is started with Ctrl-C and TERM blocked (client.signals): the main process tells it when to end.
"""

from __future__ import annotations

import gc
import os
import sys

from client.spec import WorkerSpec
from client.worker import Worker
from core.files import raise_file_limit


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
