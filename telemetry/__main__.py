"""`python -m telemetry FD`: the sampler process; FD is the file that holds its orders.
`python -m telemetry power --gpus 0-7 --seconds 5`: what GPUs of this machine use.

The sampler ends when its standard input does, and is nice: looking must not slow what is looked at.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

import uvloop

from telemetry import power_command
from telemetry.poller import Replica, poll
from telemetry.sample import ReplicaSample
from telemetry.sampler import Orders

NICENESS = 5


async def serve(orders: Orders) -> None:
    ended = asyncio.Event()

    def deliver(sample: ReplicaSample) -> None:
        # Smaller than PIPE_BUF, so it goes in whole or not at all; a full pipe costs the sample.
        with suppress(BlockingIOError):
            try:
                os.write(orders.results_fd, sample.pack())
            except BrokenPipeError:
                ended.set()

    def look() -> None:
        if not os.read(0, 4096):
            ended.set()

    os.set_blocking(orders.results_fd, False)
    asyncio.get_running_loop().add_reader(0, look)
    replicas = [Replica(number, url, deliver) for number, url in enumerate(orders.urls)]
    polling = asyncio.create_task(poll(replicas, orders.interval_s))
    await ended.wait()
    polling.cancel()
    for replica in replicas:
        await replica.close()


def main() -> int:
    if sys.argv[1:2] == ["power"]:
        return power_command.main(sys.argv[2:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends us
    os.nice(NICENESS)
    uvloop.run(serve(Orders.read(int(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
