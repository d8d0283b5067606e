"""Ours over HTTP and the engine's own offline benchmark in turn: what the way through LoadGen costs.

Both get the very same prompts and as many output tokens; both speeds are output tokens per second from
the first prompt handed over to the last answer. The order changes from round to round, so that what
drifts (clocks, heat) is no advantage of either.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backends.warmup import ladder_prompts
from bench.gpu.compiles import LogMark, watched
from bench.gpu.histograms import grown, read_histograms
from bench.gpu.inproc import OwnEngine, OwnRun
from bench.gpu.ours import Load, ours_command, run_ours
from core.errors import RunError
from dataset import load_dataset

ORDERS = (("ours", "own"), ("own", "ours"))
Found = dict[str, Any]
Side = Callable[[], Found]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Work:
    """What both sides are asked for."""

    dataset: Path
    queries: int  # at least; Offline asks whole passes of the dataset
    max_tokens: int
    rounds: int
    folder: Path
    flags: tuple[str, ...] = ()  # of run_mlperf.py, none that change sampling
    detokenize: bool = True  # of the engine's own; a server always does
    ladder: int = 0  # tokens: prompts of each length up to this warm the engine's own

    @property
    def load(self) -> Load:
        flags = ("--warmup", "0", *self.flags)
        return Load("offline", self.dataset, self.max_tokens, self.queries, flags=flags)

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts.json"

    def ours(self, url: str, number: int, requests: int) -> Found:
        """Raises RunError."""
        return _ours(self.load, url, self.folder / f"round-{number}", requests)

    def warm(self, engine: OwnEngine) -> OwnRun:
        """What the server got before, and a round that is not counted. Raises RunError."""
        rows = json.loads(self.prompts.read_text())
        prompts = [np.array(row, np.int32) for row in rows]
        ladder = [rung[0].tolist() for rung in ladder_prompts(prompts, self.ladder, 1)]
        if ladder:
            file = self.folder / "ladder.json"
            file.write_text(json.dumps(ladder))
            engine.generate(file, 1, singly=True)
        return self.own(engine)

    def own(self, engine: OwnEngine) -> OwnRun:
        """Raises RunError."""
        return engine.generate(self.prompts, self.max_tokens, detokenize=self.detokenize)


def take_turns(
    work: Work,
    url: str,
    server_log: Path,
    own: OwnEngine,
    say: Say,
    at_once: bool = False,
    before: Callable[[], object] = lambda: None,
) -> Found:
    """The rounds of both, after one of `own` that is not counted; `before` the first the server is
    made warm, at the latest.

    at_once: both at the same time, on GPUs of their own. Raises RunError where a side does not do its
    work, and OSError.
    """
    requests, isl = write_prompts(work.dataset, work.queries, work.prompts)
    warm_up = work.warm(own)
    say(f"warm-up of the engine in a process: {warm_up.seconds:.0f} s")
    before()
    done = []
    for number in range(work.rounds):
        sides: dict[str, Side] = {
            "ours": partial(work.ours, url, number, requests),
            "own": lambda: _own(work.own(own), requests),
        }
        logs = {"ours": server_log, "own": own.log}
        order = ORDERS[number % len(ORDERS)]
        done.append(_round(sides, logs, order, at_once))
        ratio = done[-1]["ratio"]
        say(f"round {number + 1} of {work.rounds}: {ratio:.4f} of the engine's own speed")
    seen = {"ours": watched(server_log), "own": watched(own.log)}
    return _result(work, requests, isl, done, own, warm_up, url) | {"watched": seen}


def take_blocks(
    work: Work,
    server: Callable[[], AbstractContextManager[tuple[str, Path]]],
    own: Callable[[], AbstractContextManager[OwnEngine]],
    say: Say,
) -> Found:
    """All rounds of ours, then all of the engine's own: for one GPU, which holds one engine.

    server gives a URL that is warm, and its log. Raises as `take_turns`.
    """
    requests, isl = write_prompts(work.dataset, work.queries, work.prompts)
    numbers = range(work.rounds)
    with server() as (url, log):
        ours = [watch(log, partial(work.ours, url, number, requests)) for number in numbers]
        seen = {"ours": watched(log)}
    say(f"ours: {', '.join(_speed(each) for each in ours)} tokens/s")
    with own() as engine:
        warm_up = work.warm(engine)
        theirs = [watch(engine.log, lambda: _own(work.own(engine), requests)) for _ in numbers]
        seen["own"] = watched(engine.log)
        say(f"own: {', '.join(_speed(each) for each in theirs)} tokens/s")
        done = [
            {"order": ["blocks"], "ours": mine, "own": other, "ratio": _ratio(mine, other)}
            for mine, other in zip(ours, theirs, strict=True)
        ]
        return _result(work, requests, isl, done, engine, warm_up, url) | {"watched": seen}


def _result(
    work: Work,
    requests: int,
    isl: float,
    done: list[Found],
    own: OwnEngine,
    warm_up: OwnRun,
    url: str,
) -> Found:
    return {
        "requests": requests,
        "isl": isl,
        "max_tokens": work.max_tokens,
        "detokenize": work.detokenize,
        "rounds": done,
        "ratio": spread([each["ratio"] for each in done]),
        "engine": asdict(own.ready),
        "warm_up": asdict(warm_up),
        "commands": {
            "ours": ours_command(work.load, [url], work.folder / "round-0"),
            "own": own.command,
        },
    }


def write_prompts(dataset: Path, queries: int, path: Path) -> tuple[int, float]:
    """The prompts that Offline asks, in the dataset's order; how many, and their mean length."""
    found = load_dataset(dataset)
    passes = -(-queries // len(found))
    rows = [found.prompt(index).tolist() for index in range(len(found))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows * passes))
    return len(found) * passes, float(found.lengths.mean())


def watch(log: Path, side: Side) -> Found:
    """What a side did, and what its engine compiled meanwhile."""
    mark = LogMark.at(log)
    return side() | {"compiles": mark.compiles_since()}


def _round(
    sides: dict[str, Side], logs: dict[str, Path], order: Sequence[str], at_once: bool
) -> Found:
    marks = {name: LogMark.at(log) for name, log in logs.items()}
    if at_once:
        with ThreadPoolExecutor(len(order)) as pool:
            found = dict(zip(order, pool.map(lambda name: sides[name](), order), strict=True))
    else:
        found = {name: sides[name]() for name in order}
    for name, mark in marks.items():
        found[name]["compiles"] = mark.compiles_since()
    ratio = _ratio(found["ours"], found["own"])
    return {"order": ["at once"] if at_once else [*order], **found, "ratio": ratio}


def _ratio(ours: Found, own: Found) -> float:
    return float(ours["tokens_per_s"] / own["tokens_per_s"])


def _speed(found: Found) -> str:
    return f"{found['tokens_per_s']:,.0f}"


def _ours(load: Load, url: str, folder: Path, requests: int) -> dict[str, Any]:
    """With the mean latency by the client's and the engine's clock: between them lies the front end,
    HTTP. Raises RunError."""
    before = read_histograms(url)
    summary = run_ours(load, [url], folder)
    engine = grown(before, read_histograms(url)).get("e2e")
    _check("run_mlperf.py", summary["ok"], requests)
    busiest = max(summary["headroom"]["processes"], key=lambda process: process["peak_busy"])
    return {
        "seconds": summary["duration_s"],
        "output_tokens": summary["output_tokens"],
        "tokens_per_s": summary["tokens_per_s"],
        "verdict": summary["verdict"],
        "latency_s": {
            "client": summary["latency_ns"]["mean"] / 1e9,
            "engine": engine.mean_s if engine else None,
        },
        "busiest": {name: busiest[name] for name in ("name", "peak_busy")},
    }


def _own(run: OwnRun, requests: int) -> dict[str, Any]:
    """Raises RunError."""
    _check("vLLM's LLM", run.requests, requests)
    return asdict(run) | {"tokens_per_s": run.tokens_per_s}


def _check(who: str, answered: int, requests: int) -> None:
    if answered != requests:
        raise RunError(
            f"{who} answered {answered} of {requests} queries: the two cannot be compared"
        )


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
