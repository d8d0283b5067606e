"""The engines of the step `turns`: one behind HTTP, one in a process, started for it alone.

On two GPUs both live at the same time. One GPU holds one of them, so that all rounds of one side come
before those of the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.gpu import turns
from bench.gpu.inproc import OwnEngine, own_engine
from bench.gpu.ours import write_dataset
from bench.gpu.served import Server, Starting, planned, serve
from bench.gpu.starts import engine_flags, server_flags, warm
from bench.gpu.steps import Bench, Found
from server.plan import Replica


def take_turns(bench: Bench) -> Found:
    """Raises SetupError where an engine does not start, RunError where a query fails."""
    return _side_by_side(bench) if len(bench.options.gpus) > 1 else _in_blocks(bench)


def _side_by_side(bench: Bench) -> Found:
    options, folder = bench.options, bench.folder("turns")
    own_replica = _replica(bench, 1)
    with (
        _served(bench, options.gpus[:1]) as starting,
        _in_process(bench, own_replica) as own,
        ThreadPoolExecutor(1) as thread,
    ):
        server = starting.ready
        bench.say(f"ready: served {server.ready_s:.0f} s, in process {own.ready.ready_s:.0f} s")
        warming = thread.submit(warm, bench, server.urls)
        found = turns.take_turns(
            _work(bench, folder),
            server.urls[0],
            server.logs[0],
            own,
            bench.say,
            at_once=True,
            before=warming.result,
        )
    return found | _starts(server)


def _in_blocks(bench: Bench) -> Found:
    options, folder = bench.options, bench.folder("turns")
    own_replica, servers = _replica(bench, 0), []

    @contextmanager
    def served() -> Iterator[tuple[str, Path]]:
        with _served(bench, options.gpus) as starting:
            server = starting.ready
            servers.append(server)
            warm(bench, server.urls)
            yield server.urls[0], server.logs[0]

    found = turns.take_blocks(
        _work(bench, folder), served, lambda: _in_process(bench, own_replica), bench.say
    )
    return found | _starts(servers[0])


def _served(bench: Bench, gpus: Sequence[int]) -> AbstractContextManager[Starting]:
    folder = bench.folder("turns") / "served"
    return serve(server_flags(bench, gpus), engine_flags(bench.options), folder)


def _in_process(bench: Bench, replica: Replica) -> AbstractContextManager[OwnEngine]:
    log = bench.folder("turns") / "own.log"
    return own_engine(replica, log, os.environ, bench.options.timeout_s)


def _replica(bench: Bench, index: int) -> Replica:
    """What would serve on that GPU: the engine in a process gets its flags, variables and caches."""
    folder = bench.folder("turns") / "planned"
    flags = server_flags(bench, bench.options.gpus)
    return planned(flags, engine_flags(bench.options), folder)[index]


def _work(bench: Bench, folder: Path) -> turns.Work:
    options = bench.options
    dataset = write_dataset(folder / "data.parquet", options.queries, options.isl, ids=bench.ids)
    return turns.Work(
        dataset,
        options.queries,
        options.osl,
        options.rounds,
        folder,
        ladder=options.warmup_tokens,
    )


def _starts(server: Server) -> Found:
    return {"server": {"ready_s": server.ready_s, "phases": server.phases}}
