"""`python -m client FD`: one client process; FD is the file that holds its WorkerSpec."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys

import uvloop

from client.spec import WorkerSpec
from client.worker import Worker


def raise_file_limit() -> None:
    """Every open request is a socket; the soft limit is often 1024 where the hard one is high."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(spec: WorkerSpec) -> None:
    worker = Worker(spec, asyncio.get_running_loop())
    gc.freeze()
    gc.disable()  # the hot path makes no cycles, and a collection would be a pause
    worker.start()
    await worker.ended


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which tells us
    raise_file_limit()
    uvloop.run(serve(WorkerSpec.read(int(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
