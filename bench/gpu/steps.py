"""The steps of `python -m bench.gpu` on servers that run: each gives figures for JSON, and a table."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from bench.gpu import clients, clients_table, commands, replicas, search
from bench.gpu.compiles import Compile, LogMark, compiled_between, watched, watches_all
from bench.gpu.options import Options
from bench.gpu.ours import Ask, Found, known_ids


@dataclass(frozen=True, slots=True)
class Target:
    """The replicas that a step measures."""

    urls: tuple[str, ...]
    gpus: tuple[int, ...]
    logs: tuple[Path, ...] = ()  # none of servers that others started
    server: int | None = None  # the process that started them

    def first(self) -> Target:
        """One of them."""
        return Target(self.urls[:1], self.gpus[:1], self.logs[:1])


@dataclass(frozen=True, slots=True)
class Bench:
    """What all steps share."""

    options: Options
    model: Path
    say: Callable[[str], None]
    stopped: Event = field(default_factory=Event)  # Ctrl-C or TERM came: no further work is begun

    @property
    def ids(self) -> tuple[int, int]:
        """Of prompts."""
        return known_ids(self.model)

    def ask(self, osl: int) -> Ask:
        """Prompts of the asked length, answers of `osl` tokens."""
        return Ask(self.options.isl, osl, self.ids)

    def folder(self, step: str) -> Path:
        return self.options.output / step


Step = Callable[[Bench, Target], Found]
Table = Callable[[Found], str]


def run_step(name: str, bench: Bench, target: Target) -> Found:
    """A step's figures, with what the engines compiled meanwhile: in all, and in each of its runs."""
    marks = [LogMark.at(log) for log in target.logs]
    step, table = STEPS[name]
    seen = [watched(log) for log in target.logs]
    compiles: list[Compile] = []

    def work() -> Found:
        try:
            result = step(bench, target)
        finally:
            compiles.extend(found for mark in marks for found in mark.found_since())
        known = bool(seen) and all(seen)  # else no lines prove nothing
        for run in measured(result):
            count = compiled_between(compiles, run["began_s"], run["ended_s"])
            run["compiles"] = count if known else None
        return result

    found = attempt(name, bench, work, table)
    return found | {
        "gpus": target.gpus,
        "compiles": [each.line for each in compiles],
        "watched": seen,
        "watches_all": [watches_all(log) for log in target.logs],
    }


def measured(result: Found) -> Iterator[Found]:
    """The result or its runs, of those that say when they were measured."""
    parts = (result.get(name, ()) for name in ("trials", "runs", "results"))
    return (run for part in ([result], *parts) for run in part if "began_s" in run)


def attempt(name: str, bench: Bench, work: Callable[[], Found], table: Table) -> Found:
    """What a step gives, or its error: one step's failure costs no other step's figures.

    A result may bring an `error` of its own: it is what was measured until then.
    """
    bench.say(f"{name}: begins")
    began = time.time()
    found: Found = {"step": name, "began": time.strftime("%FT%TZ", time.gmtime(began))}
    try:
        result = work()
        if why := result.pop("error", None):
            found["error"] = why
        found["result"] = result
        found["table"] = table(result)
    except Exception as error:  # noqa: BLE001 - see above
        found["error"] = f"{type(error).__name__}: {error}"
        found["traceback"] = traceback.format_exc()
    if "error" in found:
        bench.say(f"{name}: FAILED: {found['error']}")
    found["seconds"] = time.time() - began
    bench.say(f"{name}: {found['seconds']:.0f} s")
    return found


def _replicas(bench: Bench, target: Target) -> Found:
    options = bench.options
    folder = bench.folder("replicas")
    return replicas.offline_over_all(target.urls, bench.ask(options.osl), options.queries, folder)


def _clients(bench: Bench, target: Target) -> Found:
    options = bench.options
    contest = clients.Contest(
        bench.ask(options.served_osl),
        options.qps,
        round(options.qps * options.seconds),
        options.rounds,
    )
    engine = clients.Engine(target.urls[0], options.python, bench.model)
    folder = bench.folder("clients")
    return clients.compare_clients(engine, contest, folder, bench.say, bench.stopped)


def _rate(mode: str, part: float) -> Step:
    def step(bench: Bench, target: Target) -> Found:
        options = bench.options
        effort = search.Effort(options.qps * part, options.seconds, options.searches)
        ask, folder = bench.ask(options.served_osl), bench.folder(mode)
        return search.find_rate(target.urls, mode, ask, effort, folder, bench.say, bench.stopped)

    return step


def _sweep(bench: Bench, target: Target) -> Found:
    return commands.sweep(bench.options, target.urls[0], target.gpus, bench.folder("sweep"))


def _perplexity(bench: Bench, target: Target) -> Found:
    return commands.perplexity(bench.options, target.urls[0], bench.folder("perplexity.txt"))


STEPS: dict[str, tuple[Step, Table]] = {
    "replicas": (_replicas, replicas.table),
    "clients": (_clients, clients_table.table),
    "server": (_rate("server", 1.0), search.table),
    "interactive": (_rate("interactive", 0.25), search.table),
    "sweep": (_sweep, commands.sweep_table),
    "perplexity": (_perplexity, commands.perplexity_table),
}
