"""Which engine runs when, on which GPU: starts are the dearest part, so steps share them.

Only one step runs at a time, also where there are more GPUs: engines share their host's CPUs, which
give the GPUs their work, so that one GPU's load is seen in the other's latencies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from bench.gpu import embedded, turning, turns_table
from bench.gpu.ours import Found
from bench.gpu.served import serve
from bench.gpu.starts import engine_flags, server_flags, warm
from bench.gpu.steps import Bench, Target, attempt, run_step
from bench.gpu.together import together

OVER_ALL = "replicas"
Keep = Callable[[Found], None]


def run(bench: Bench, keep: Keep) -> list[Found]:
    """All steps; each is kept as soon as it has ended. Raises SetupError where nothing starts, and
    KeyboardInterrupt when a step was ended by it."""
    done: list[Found] = []

    def note(found: Found) -> None:
        keep(found)
        done.append(found)

    if bench.options.serving:
        with _target(bench, note) as target:
            _measure(bench, target, note)
    if "embedded" in bench.options.steps:
        note(attempt("embedded", bench, lambda: _embedded(bench), embedded.table))
    for step in turning.STEPS:  # start quicker with the kernels that were compiled before
        if step in bench.options.steps:
            work = partial(turning.take_turns, bench, step)
            note(attempt(step, bench, work, turns_table.table))
            if bench.stopped.is_set():
                raise KeyboardInterrupt
    return done


def _embedded(bench: Bench) -> Found:
    devices = ("cpu", "cuda") if bench.options.on_gpus else ("cpu",)
    return embedded.on_devices(devices, bench.folder("embedded"))


def _measure(bench: Bench, target: Target, note: Keep) -> None:
    def work() -> None:
        for step in bench.options.serving:
            if not bench.stopped.is_set():
                note(run_step(step, bench, target if step == OVER_ALL else target.first()))

    together([work], target.server, bench.stopped)


@contextmanager
def _target(bench: Bench, note: Keep) -> Iterator[Target]:
    """Replicas that are warm: those that were named, or one on each GPU."""
    options = bench.options
    if options.urls:
        note(warm(bench, options.urls, options.warmup))
        yield Target(options.urls, ())  # whose GPUs nobody knows
        return
    flags = server_flags(bench, options.gpus)
    with serve(flags, engine_flags(options), bench.folder("servers")) as starting:
        server = starting.ready
        started = {"step": "start", "command": starting.command, "ready_s": server.ready_s}
        note(started | {"phases": server.phases})
        note(warm(bench, server.urls, options.warmup))
        yield Target(server.urls, options.gpus, server.logs, starting.pid)
