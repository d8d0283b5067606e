"""The same Server load by our client and by the engine's own (`vllm bench serve`), on three clocks.

TTFT and TPOT are told by each client, from the instant it sent a request, and by the engine, from the
instant the request had come to it. The truth is between them, so they stand side by side, with the CPU
time that each client took for a request. The order changes from round to round, so that what drifts
is no advantage of either.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any

from backends.detect import describe, resolve
from bench.gpu.clocks import amounts, by_client, by_engine, from_due
from bench.gpu.compiles import shown
from bench.gpu.histograms import grown, read_histograms
from bench.gpu.ours import Load, known_ids, ours_command, read_ours, write_dataset
from bench.gpu.theirs import TheirLoad, run_theirs, their_command
from bench.gpu.watch import Watched, watch
from core.errors import RunError
from results.records import Records, read_parquet
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
HEAD = (
    *("client", "TTFT p50 / p99 / mean", "from due", "engine's mean [p50 in]"),
    *("TPOT p50 / p99 / mean", "engine's mean [p50 in]", "CPU/request", "late p99", "compiled"),
)
Run = dict[str, Any]
Client = Callable[[Path], tuple[list[str], Watched, Records]]  # one run of it, in a folder


def compare_clients(
    url: str,
    engine_python: str,
    model: Path,
    qps: float,
    queries: int,
    isl: int,
    osl: int,
    rounds: int,
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """`rounds` runs of both at `qps` requests per second, in turn; the engine at `url` is warm already
    and has nothing else to do.

    model: its folder, for the tokenizer of the engine's client. isl, osl: tokens of a prompt, and at
    most of an answer. Raises RunError for a run in which a request failed or the engine counted other
    requests, SetupError when no engine answers, and OSError.
    """
    dataset = write_dataset(folder / "prompts.parquet", queries, isl, ids=known_ids(model))
    served = describe(resolve(url), DESCRIBE_TIMEOUT_S).model or str(model)
    load = Load("server", dataset, osl, queries, qps, flags=("--warmup", "0"))
    their_load = TheirLoad(model, served, qps, queries, isl, osl)
    clients: dict[str, Client] = {
        "ours": partial(_ours, load, url),
        "theirs": partial(_theirs, their_load, url, engine_python),
    }
    runs: list[Run] = []
    turns = [who for number in range(rounds) for who in CLIENTS[:: (1, -1)[number % 2]]]
    for number, who in enumerate(turns, 1):
        runs.append(_run(who, clients[who], url, folder / f"{number:02}-{who}"))
        cpu_ms = runs[-1]["cpu_ms_per_request"]
        say(f"{number} of {len(turns)}: {who}, {cpu_ms:.2f} ms of CPU a request")
    asked = {"qps": qps, "queries": queries, "isl": isl, "osl": osl}
    return {**asked, "differences": [*DIFFERENCES], "runs": runs}


def _ours(load: Load, url: str, folder: Path) -> tuple[list[str], Watched, Records]:
    command = ours_command(load, [url], folder)
    watched = watch(command)
    if not watched.stdout:
        raise RunError(f"run_mlperf.py ended with {watched.returncode}: {watched.stderr[-2000:]}")
    summary = read_ours(folder, load.mode)
    if summary["failures"] or summary["ok"] < load.queries:
        why = summary["failures"], summary["failure_reasons"], summary["verdict"]
        raise RunError(f"run_mlperf.py: {summary['ok']} of {load.queries} queries succeeded: {why}")
    queries = folder / "output" / load.mode / "performance" / "queries.parquet"
    return command, watched, read_parquet(queries)


def _theirs(
    load: TheirLoad, url: str, python: str, folder: Path
) -> tuple[list[str], Watched, Records]:
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.json"
    command = their_command(load, url, python, result)
    return command, *run_theirs(command, result)


def _run(who: str, client: Client, url: str, folder: Path) -> Run:
    """Raises RunError."""
    before, began_s = read_histograms(url), time.time()
    command, watched, records = client(folder)
    ended_s = time.time()
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
        "who": who,
        "began_s": began_s,  # since 1970, as the next
        "ended_s": ended_s,
        "command": command,
        "failures": 0,  # or there is no result
        **amounts(records, watched),
        "client": by_client(records),
        "from_due": from_due(records) if who == "ours" else None,  # theirs does not tell it
        "engine": by_engine(engine),
    }


def table(result: Mapping[str, Any]) -> str:
    """In Markdown, milliseconds: a line a run, and one of medians for each client."""
    runs: list[Run] = result["runs"]
    lines = [HEAD, ("---",) * len(HEAD), *(_line(run["who"], [run]) for run in runs)]
    for who in CLIENTS:
        lines.append(_line(f"{who}, median", [run for run in runs if run["who"] == who]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _line(name: str, runs: Sequence[Run]) -> tuple[str, ...]:
    return (
        name,
        _three(runs, "client", "ttft"),
        _three(runs, "from_due", "ttft"),
        _engine(runs, "ttft"),
        _three(runs, "client", "tpot"),
        _engine(runs, "tpot"),
        _median(runs, "cpu_ms_per_request"),
        _median(runs, "from_due", "late", "p99"),
        ", ".join(shown(run.get("compiles")) for run in runs),
    )


def _three(runs: Sequence[Run], *path: str) -> str:
    cells = [_median(runs, *path, name) for name in ("p50", "p99", "mean")]
    return " / ".join(cells) if any(cells) else ""


def _engine(runs: Sequence[Run], name: str) -> str:
    """The mean, and what the buckets of the median span."""
    low, high = zip(*(run["engine"][name]["p50"] for run in runs), strict=True)
    top = "∞" if None in high else f"{max(high):g}"
    return f"{_median(runs, 'engine', name, 'mean')} [{min(low):g}, {top}]"


def _median(runs: Sequence[Run], *path: str) -> str:
    """Of what stands there in each run; nothing where it stands in none."""
    values: list[Any] = [reduce(lambda found, key: found and found[key], path, run) for run in runs]
    return "" if None in values else f"{statistics.median(values):.2f}"
