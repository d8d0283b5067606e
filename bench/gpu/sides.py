"""The two sides of a round: Offline by ours, and the engine's own benchmark with the same prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

import numpy as np

from backends.warmup import ladder_prompts
from bench.gpu.compiles import LogMark
from bench.gpu.histograms import grown, read_histograms
from bench.gpu.inproc import OwnEngine, OwnRun
from bench.gpu.ours import Found, Load, read_queries, run_ours
from bench.gpu.together import together
from core.errors import RunError
from dataset import load_dataset

Side = Callable[[], Found]


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

    def round_folder(self, number: int) -> Path:
        return self.folder / f"round-{number}"

    def write_prompts(self) -> tuple[int, float]:
        """Those that Offline asks, in the dataset's order; how many, and their mean length."""
        found = load_dataset(self.dataset)
        passes = -(-self.queries // len(found))
        rows = [found.prompt(index).tolist() for index in range(len(found))]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prompts.write_text(json.dumps(rows * passes))
        return len(found) * passes, float(found.lengths.mean())

    def keep(self, rounds: Sequence[Found]) -> None:
        """Those that are done: what comes after may fail, or the machine be taken away."""
        (self.folder / "rounds.json").write_text(json.dumps(rounds, indent=1), encoding="utf-8")

    def climb(self, engine: OwnEngine) -> None:
        """The ladder that a server gets from the harness's warm-up. Raises RunError."""
        rows = json.loads(self.prompts.read_text())
        prompts = [np.array(row, np.int32) for row in rows]
        rungs = [rung[0].tolist() for rung in ladder_prompts(prompts, self.ladder, 1)]
        if rungs:
            file = self.folder / "ladder.json"
            file.write_text(json.dumps(rungs))
            engine.generate(file, 1, singly=True)


def ours(work: Work, url: str, number: int, requests: int) -> Found:
    """With the mean latency from the sending by the client's clock, and from the arrival by the
    engine's: between them lies the front end, HTTP. Raises RunError."""
    before, folder = read_histograms(url), work.round_folder(number)
    summary = run_ours(work.load, [url], folder)
    engine = grown(before, read_histograms(url)).get("e2e")
    _check("run_mlperf.py", summary["ok"], requests)
    records = read_queries(folder, work.load.mode)
    busiest = max(summary["headroom"]["processes"], key=lambda process: process["peak_busy"])
    return {
        "seconds": summary["duration_s"],
        "output_tokens": summary["output_tokens"],
        "tokens_per_s": summary["tokens_per_s"],
        "verdict": summary["verdict"],
        "latency_s": {
            "client": float((records["done_ns"] - records["sent_ns"]).mean()) / 1e9,
            "engine": engine.mean_s if engine else None,
        },
        "busiest": {name: busiest[name] for name in ("name", "peak_busy")},
    }


def own(work: Work, engine: OwnEngine, requests: int) -> Found:
    """Raises RunError."""
    run: OwnRun = engine.generate(work.prompts, work.max_tokens, detokenize=work.detokenize)
    _check("vLLM's LLM", run.requests, requests)
    return asdict(run) | {"tokens_per_s": run.tokens_per_s}


def run_side(
    side: Side, log: Path, server: int | None = None, stopped: Event | None = None
) -> Found:
    """What a side did, and what its engine compiled meanwhile, by its log.

    server, stopped: as for `together`. Raises what the side raises.
    """
    mark = LogMark.at(log)
    (found,) = together([side], server, stopped)
    return found | {"compiles": mark.compiles_since()}


def _check(who: str, answered: int, requests: int) -> None:
    if answered != requests:
        raise RunError(
            f"{who} answered {answered} of {requests} queries: the two cannot be compared"
        )
