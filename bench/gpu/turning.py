"""The engines of the steps `turns` and `exchanged`: one behind HTTP, one in a process, started for it
alone.

On two GPUs both live at the same time and work in turn; `exchanged` is the same with the GPUs exchanged,
so that what one GPU is faster than the other counts for each side once. One GPU holds one engine, so
that all rounds of one side come before those of the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from bench.gpu import turns
from bench.gpu.inproc import OwnEngine, own_engine
from bench.gpu.ours import Found, write_dataset
from bench.gpu.served import Server, Starting, planned, serve
from bench.gpu.sides import Work
from bench.gpu.starts import engine_flags, server_flags, warm
from bench.gpu.steps import Bench
from server.plan import Replica

STEPS = ("turns", "exchanged")


def take_turns(bench: Bench, step: str) -> Found:
    """Raises SetupError where an engine does not start, RunError where a query fails."""
    gpus = bench.options.gpus[:2]
    if step == "exchanged":
        gpus = gpus[::-1]
    found = _side_by_side if len(gpus) > 1 else _in_blocks
    return found(bench, bench.folder(step), gpus) | {"gpus": gpus}


def _side_by_side(bench: Bench, folder: Path, gpus: Sequence[int]) -> Found:
    replica = _replica(bench, folder, gpus)
    with (
        _served(bench, folder, gpus[:1]) as starting,
        _in_process(bench, folder, replica) as own,
    ):
        server = starting.ready
        bench.say(f"ready: served {server.ready_s:.0f} s, in process {own.ready.ready_s:.0f} s")
        found = turns.take_turns(
            _work(bench, folder),
            server.urls[0],
            server.logs[0],
            own,
            bench.say,
            warm=partial(warm, bench, server.urls, 0),  # the first round does the rest
            server=starting.pid,
            stopped=bench.stopped,
        )
    return found | _starts(server)


def _in_blocks(bench: Bench, folder: Path, gpus: Sequence[int]) -> Found:
    replica, servers = _replica(bench, folder, gpus), []

    @contextmanager
    def served() -> Iterator[tuple[str, Path, int]]:
        with _served(bench, folder, gpus) as starting:
            server = starting.ready
            servers.append(server)
            warm(bench, server.urls, 0)
            yield server.urls[0], server.logs[0], starting.pid

    found = turns.take_blocks(
        _work(bench, folder),
        served,
        lambda: _in_process(bench, folder, replica),
        bench.say,
        bench.stopped,
    )
    return found | _starts(servers[0])


def _served(bench: Bench, folder: Path, gpus: Sequence[int]) -> AbstractContextManager[Starting]:
    return serve(server_flags(bench, gpus), engine_flags(bench.options), folder / "served")


def _in_process(bench: Bench, folder: Path, replica: Replica) -> AbstractContextManager[OwnEngine]:
    return own_engine(replica, folder / "own.log", os.environ, bench.options.timeout_s)


def _replica(bench: Bench, folder: Path, gpus: Sequence[int]) -> Replica:
    """What would serve on the last of the GPUs: the engine in a process gets its flags, variables and
    caches."""
    flags = server_flags(bench, gpus)
    return planned(flags, engine_flags(bench.options), folder / "planned")[-1]


def _work(bench: Bench, folder: Path) -> Work:
    options = bench.options
    dataset = write_dataset(folder / "data.parquet", options.queries, options.isl, ids=bench.ids)
    return Work(
        dataset,
        options.queries,
        options.osl,
        options.rounds,
        folder,
        ladder=options.warmup_tokens,
    )


def _starts(server: Server) -> Found:
    return {"server": {"ready_s": server.ready_s, "phases": server.phases}}
