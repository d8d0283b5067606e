"""Which engine runs when, on which GPU: starts are the dearest part, so steps share them.

Where there are two GPUs, steps that need one replica run side by side, each on its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event

from bench.gpu import embedded, turning, turns_table
from bench.gpu.served import serve
from bench.gpu.starts import engine_flags, server_flags, warm
from bench.gpu.steps import Bench, Found, Target, attempt, run_step
from bench.processes import process_tree

LANES = (("sweep", "perplexity"), ("clients", "server", "interactive"))
TOGETHER = "replicas"
LOOK_S = 0.5
Keep = Callable[[Found], None]


def run(bench: Bench, keep: Keep) -> list[Found]:
    """All steps; each is kept as soon as it has ended. Raises SetupError where nothing starts."""
    done: list[Found] = []

    def note(found: Found) -> None:
        keep(found)
        done.append(found)

    if bench.options.serving:
        with _target(bench, note) as target:
            _measure(bench, target, note)
    if "turns" in bench.options.steps:  # starts quicker with the kernels that were compiled before
        note(attempt("turns", bench, lambda: turning.take_turns(bench), turns_table.table))
    if "embedded" in bench.options.steps:
        note(attempt("embedded", bench, lambda: _embedded(bench), embedded.table))
    return done


def _embedded(bench: Bench) -> Found:
    devices = ("cpu", "cuda") if bench.options.platform != "cpu" else ("cpu",)
    return embedded.on_devices(devices, bench.folder("embedded"))


def _measure(bench: Bench, target: Target, note: Keep) -> None:
    wanted = bench.options.serving
    if TOGETHER in wanted:
        note(run_step(TOGETHER, bench, target))
    lanes = [[step for step in lane if step in wanted] for lane in LANES]
    if len(target.urls) < len(lanes):
        lanes = [[step for lane in lanes for step in lane]]

    stopped, busy = Event(), set[int]()

    def follow(number: int) -> None:
        busy.add(number)
        try:
            for step in lanes[number]:
                if not stopped.is_set():
                    note(run_step(step, bench, target.only(number)))
        finally:  # also where a step's figures cannot be stored
            busy.discard(number)

    with ThreadPoolExecutor(len(lanes)) as threads:
        try:
            for lane in [threads.submit(follow, number) for number in range(len(lanes))]:
                lane.result()
        except KeyboardInterrupt:  # which may come before all are submitted
            stopped.set()
            while busy:  # a step may be about to start its client
                _interrupt_clients(target.server)
                time.sleep(LOOK_S)
            raise


def _interrupt_clients(server: int | None) -> None:
    """What runs for a step hears of it, too: TERM is said to us alone, and some clients have sessions
    of their own. The server is ended later."""
    spared = {os.getpid(), *(process_tree(server) if server else ())}
    for pid in {*process_tree(os.getpid())} - spared:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)


@contextmanager
def _target(bench: Bench, note: Keep) -> Iterator[Target]:
    """Replicas that are warm: those that were named, or one on each GPU."""
    options = bench.options
    if options.urls:
        note(warm(bench, options.urls))
        yield Target(options.urls, options.gpus)
        return
    flags = server_flags(bench, options.gpus)
    with serve(flags, engine_flags(options), bench.folder("servers")) as starting:
        server = starting.ready
        started = {"step": "start", "command": starting.command, "ready_s": server.ready_s}
        note(started | {"phases": server.phases})
        note(warm(bench, server.urls))
        yield Target(server.urls, options.gpus, server.logs, starting.pid)
