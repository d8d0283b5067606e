"""The same Server load by our client and by the engine's own (`vllm bench serve`), on three clocks.

TTFT and TPOT are told by each client, from the instant it sent a request, and by the engine, from the
instant the request had come to it. The truth is between them, so they stand side by side, with the CPU
time that each client took for a request. The order changes from round to round, so that what drifts
is no advantage of either. A run that fails is kept as such, and costs no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from backends.detect import describe, resolve
from bench.gpu.clocks import amounts, by_client, by_engine, from_due
from bench.gpu.histograms import grown, read_histograms
from bench.gpu.ours import (
    Ask,
    Load,
    judge_ours,
    ours_command,
    prepare,
    read_queries,
    write_dataset,
)
from bench.gpu.theirs import TheirLoad, run_theirs, their_command
from bench.gpu.together import INTERRUPTED
from bench.gpu.watch import Watched, watch
from core.errors import RunError
from results.records import Records
from telemetry.look import left_open

CLIENTS = ("ours", "theirs")
NEEDED = ("ttft", "tpot", "e2e")  # of the engine's histograms; each counts a request once
DESCRIBE_TIMEOUT_S = 30.0
DIFFERENCES = (
    "ours sends prompts as token ids and has token ids sent back beside the text; theirs sends text, "
    "which the engine turns into ids before its clock starts",
    "ours draws its schedule as LoadGen does; theirs stretches its own to end at requests / rate",
    "ours ends an answer when it is complete, theirs at its last token, an event earlier",
)
Run = dict[str, Any]
Client = Callable[[Path], tuple[list[str], Watched, Records]]  # one run of it, in a folder


@dataclass(frozen=True, slots=True)
class Engine:
    """That is warm already, and has nothing else to do."""

    url: str
    python: str  # of the engine, for its own client
    model: Path  # its folder, for the tokenizer of the engine's client


@dataclass(frozen=True, slots=True)
class Contest:
    """What both clients ask, and how often they are compared."""

    ask: Ask
    qps: float
    queries: int
    rounds: int


def compare_clients(
    engine: Engine,
    contest: Contest,
    folder: Path,
    say: Callable[[str], None],
    stopped: Event,
) -> dict[str, Any]:
    """The runs of both, in turn, after one that is not counted: what a load meets first (kernels for
    its batches, caches) would be its client's alone.

    A run in which a request failed or the engine counted other requests has a `failure` in place of
    figures; the result has an `error` when all are so, or when it was `stopped` before the last.
    Raises SetupError when no engine answers, and OSError.
    """
    clients = _clients(engine, contest, folder)
    turns = [who for number in range(contest.rounds) for who in CLIENTS[:: (1, -1)[number % 2]]]
    first = _attempt("ours", clients["ours"], engine.url, folder / "00-ours")
    say(f"a run that is not counted: {_told(first)}")
    runs: list[Run] = []
    for number, who in enumerate(turns, 1):
        run = _attempt(who, clients[who], engine.url, folder / f"{number:02}-{who}")
        if stopped.is_set():  # it was ended by us, or would be the last
            break
        runs.append(run)
        say(f"{number} of {len(turns)}: {who}, {_told(run)}")
    error = None
    if stopped.is_set():
        error = INTERRUPTED
    elif not any(map(good, runs)):
        error = "; ".join(dict.fromkeys(run["failure"] for run in runs))
    ask = contest.ask
    asked = {"qps": contest.qps, "queries": contest.queries, "isl": ask.isl, "osl": ask.osl}
    return {"error": error, **asked, "differences": [*DIFFERENCES], "runs": runs}


def _clients(engine: Engine, contest: Contest, folder: Path) -> dict[str, Client]:
    ask, qps, queries = contest.ask, contest.qps, contest.queries
    dataset = write_dataset(folder / "prompts.parquet", queries, ask.isl, ids=ask.ids)
    load = Load("server", dataset, ask.osl, queries, qps, flags=("--warmup", "0"))
    served = describe(resolve(engine.url), DESCRIBE_TIMEOUT_S).model or str(engine.model)
    their_load = TheirLoad(engine.model, served, qps, queries, ask.isl, ask.osl)
    return {
        "ours": partial(_ours, load, engine.url),
        "theirs": partial(_theirs, their_load, engine.url, engine.python),
    }


def _told(run: Run) -> str:
    return run["failure"] or f"{run['cpu_ms_per_request']:.2f} ms of CPU a request"


def good(run: Run) -> bool:
    """Whether it has figures."""
    return run["failure"] is None


def _ours(load: Load, url: str, folder: Path) -> tuple[list[str], Watched, Records]:
    prepare(load, folder)
    command = ours_command(load, [url], folder)
    watched = watch(command)
    judge_ours(load, folder, watched)
    return command, watched, read_queries(folder, load.mode)


def _theirs(
    load: TheirLoad, url: str, python: str, folder: Path
) -> tuple[list[str], Watched, Records]:
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.json"
    command = their_command(load, url, python, result)
    return command, *run_theirs(command, result)


def _attempt(who: str, client: Client, url: str, folder: Path) -> Run:
    """One run, or why it is none."""
    began_s = time.time()
    try:
        found = _run(who, client, url, folder)
    except RunError as error:
        found = {"failure": str(error)}
    return {"who": who, "began_s": began_s, "ended_s": time.time(), "failure": None} | found


def _run(who: str, client: Client, url: str, folder: Path) -> Run:
    """Raises RunError."""
    before = read_histograms(url)
    command, watched, records = client(folder)
    if busy := left_open([url]):
        raise RunError(f"the client ({who}) has ended, and the engine still has requests: {busy}")
    engine = grown(before, read_histograms(url))
    for name in NEEDED:
        counted = engine[name].count if name in engine else 0
        if counted != len(records):
            raise RunError(
                f"the engine counted {counted} requests ({name}), the client ({who}) made "
                f"{len(records)}: nobody else may use it, nor may it run with --disable-log-stats"
            )
    return {
        "command": command,
        **amounts(records, watched),
        "client": by_client(records),
        "from_due": from_due(records) if who == "ours" else None,  # theirs does not tell it
        "engine": by_engine(engine),
    }
