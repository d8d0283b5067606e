"""The steps of `python -m bench.gpu` on servers that run: each gives figures for JSON, and a table."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.gpu import clients, replicas, search
from bench.gpu.compiles import LogMark, compiled_between, watched
from bench.gpu.options import Options
from bench.gpu.ours import ROOT, known_ids
from core.errors import RunError

PROFILE = "gptoss-fp4-vllm-mi355x"  # whose sweep is taken; it names no hardware of ours
PERPLEXITY_FLAGS = ("--in-flight", "32")


@dataclass(frozen=True, slots=True)
class Target:
    """The replicas that a step measures."""

    urls: tuple[str, ...]
    gpus: tuple[int, ...]
    logs: tuple[Path, ...] = ()  # none of servers that others started
    server: int | None = None  # the process that started them

    def only(self, index: int) -> Target:
        """One of them."""
        return Target(
            self.urls[index : index + 1], self.gpus[index : index + 1], self.logs[index : index + 1]
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """What all steps share."""

    options: Options
    model: Path
    say: Callable[[str], None]

    @property
    def ids(self) -> tuple[int, int]:
        """Of prompts."""
        return known_ids(self.model)

    def folder(self, step: str) -> Path:
        return self.options.output / step


Found = dict[str, Any]
Step = Callable[[Bench, Target], Found]
Table = Callable[[Found], str]


def run_step(name: str, bench: Bench, target: Target) -> Found:
    """A step's figures, with what the engines compiled meanwhile: in all, and in each of its runs."""
    marks = [LogMark.at(log) for log in target.logs]
    step, table = STEPS[name]

    def work() -> Found:
        result = step(bench, target)
        lines = [line for mark in marks for line in mark.compiles_since()]
        known = bool(target.logs) and all(map(watched, target.logs))  # else no lines prove nothing
        for run, began_s, ended_s in windows(result):
            run["compiles"] = compiled_between(lines, began_s, ended_s) if known else None
        return result

    found = attempt(name, bench, work, table)
    return found | {
        "gpus": target.gpus,
        "compiles": [line for mark in marks for line in mark.compiles_since()],
        "watched": [watched(log) for log in target.logs],
    }


def windows(result: Found) -> Iterator[tuple[Found, float, float]]:
    """Each run of a result that says when it was measured: from and up to, in seconds since 1970."""
    for run in (*result.get("trials", ()), *result.get("runs", ())):
        yield run, run["began_s"], run["ended_s"]
    for point in result.get("results", ()):  # a sweep's
        began_s = datetime.fromisoformat(point["date"]).timestamp()
        yield point, began_s, began_s + point["duration"]


def attempt(name: str, bench: Bench, work: Callable[[], Found], table: Table) -> Found:
    """What a step gives, or its error: one step's failure costs no other step's figures."""
    bench.say(f"{name}: begins")
    began = time.time()
    found: Found = {"step": name, "began": time.strftime("%FT%TZ", time.gmtime(began))}
    try:
        found["result"] = work()
        found["table"] = table(found["result"])
    except Exception as error:  # noqa: BLE001 - see above
        found["error"] = f"{type(error).__name__}: {error}"
        found["traceback"] = traceback.format_exc()
        bench.say(f"{name}: FAILED: {found['error']}")
    found["seconds"] = time.time() - began
    bench.say(f"{name}: {found['seconds']:.0f} s")
    return found


def _replicas(bench: Bench, target: Target) -> Found:
    options = bench.options
    return replicas.offline_over_all(
        target.urls,
        options.isl,
        options.osl,
        options.queries,
        bench.ids,
        bench.folder("replicas"),
    )


def _clients(bench: Bench, target: Target) -> Found:
    options = bench.options
    return clients.compare_clients(
        target.urls[0],
        options.python,
        bench.model,
        options.qps,
        round(options.qps * options.seconds),
        options.isl,
        options.osl // 2,
        options.rounds,
        bench.folder("clients"),
        bench.say,
    )


def _rate(mode: str, part: float) -> Step:
    def step(bench: Bench, target: Target) -> Found:
        options = bench.options
        effort = search.Effort(options.qps * part, options.seconds, options.searches)
        return search.find_rate(
            target.urls,
            mode,
            options.isl,
            options.osl // 2,
            bench.ids,
            effort,
            bench.folder(mode),
            bench.say,
        )

    return step


def _sweep(bench: Bench, target: Target) -> Found:
    options, folder = bench.options, bench.folder("sweep")
    gpus = ",".join(map(str, target.gpus))
    command = [
        *(sys.executable, "-m", "competition", "--profile", PROFILE, "sweep"),
        *("--server-url", target.urls[0], "--lengths", "1024/1024", "--tp", "1"),
        *("--conc", options.concurrencies, "--num-prompts-per-conc", str(options.sweep_rounds)),
        *("--range-ratio", "1.0", "--output", str(folder)),
        # Servers that others started may be on other machines.
        *(() if options.platform == "cpu" or options.urls else ("--power", gpus)),
    ]
    _run(command, bench.folder("sweep.txt"))
    about = json.loads((folder / "sweep.json").read_text())
    return {"command": command, **about, "table": (folder / "table.md").read_text()}


def _sweep_table(result: Found) -> str:
    points = [p for p in result["results"] if p.get("compiles") is not None]
    compiled = [f"{p['compiles']} at {p['conc']}" for p in points]
    last = f"\nKernels compiled while measured: {', '.join(compiled)}.\n" if compiled else ""
    return f"{result['table']}{last}"


def _perplexity(bench: Bench, target: Target) -> Found:
    command = [
        *(sys.executable, "-m", "accuracy.perplexity", "--server-url", target.urls[0]),
        *("--text", str(bench.options.text), *PERPLEXITY_FLAGS),
        *(("--tokenizer", str(bench.model)) if bench.options.model else ()),  # else gpt-oss's
    ]
    began = time.monotonic()
    output = _run(command, bench.folder("perplexity.txt"))
    seconds = time.monotonic() - began
    found: Found = json.loads(output.splitlines()[-1])
    found |= {"seconds": seconds, "tokens_per_s": found["n_tokens"] / seconds, "command": command}
    return found


def _perplexity_table(found: Found) -> str:
    return (
        "| tokens | pieces | seconds | tokens/s | word_perplexity |\n|---|---|---|---|---|\n"
        f"| {found['n_tokens']:,} | {found['n_pieces']} | {found['seconds']:.1f} | "
        f"{found['tokens_per_s']:,.0f} | {found['word_perplexity'] or 'infinite'} |"
    )


def _run(command: Sequence[str], said: Path) -> str:
    """stdout; both streams are kept in the file. Raises RunError."""
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    said.write_text(done.stdout + done.stderr)
    if done.returncode:
        raise RunError(f"{' '.join(command[1:4])} ended with {done.returncode}: {said}")
    return done.stdout


STEPS: dict[str, tuple[Step, Table]] = {
    "replicas": (_replicas, replicas.table),
    "clients": (_clients, clients.table),
    "server": (_rate("server", 1.0), search.table),
    "interactive": (_rate("interactive", 0.25), search.table),
    "sweep": (_sweep, _sweep_table),
    "perplexity": (_perplexity, _perplexity_table),
}
