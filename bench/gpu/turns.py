"""Ours over HTTP and the engine's own offline benchmark: what the way through LoadGen costs.

Both get the very same prompts and as many output tokens; both speeds are output tokens per second from
the first prompt handed over to the last answer. Only one side runs at a time: two engines share their
host's CPUs, which give a GPU its work. The order changes from round to round, so that what drifts
(clocks, heat, other guests of the machine) is no advantage of either.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event

from bench.gpu.compiles import watched, watches_all
from bench.gpu.inproc import OwnEngine
from bench.gpu.ours import Found, ours_command
from bench.gpu.sides import Side, Work, ours, own, run_side
from bench.gpu.together import INTERRUPTED, together
from core.errors import RunError

ORDERS = (("ours", "own"), ("own", "ours"))
Say = Callable[[str], None]
Failure = RunError | KeyboardInterrupt


def take_turns(
    work: Work,
    url: str,
    server_log: Path,
    engine: OwnEngine,
    say: Say,
    warm: Callable[[], object] = lambda: None,
    server: int | None = None,
    stopped: Event | None = None,
) -> Found:
    """The rounds, after one that is not counted. The result has an `error` when a later round failed.

    warm: does for the server what the ladder does for the engine in a process. server, stopped: as for
    `together`. Raises RunError where no round can be counted, and OSError.
    """
    requests, isl = work.write_prompts()
    before: list[Callable[[], object]] = [warm, partial(work.climb, engine)]
    together(before, server, stopped)
    logs = {"ours": server_log, "own": engine.log}

    def both(number: int) -> Found:
        sides: dict[str, Side] = {
            "ours": partial(ours, work, url, number, requests),
            "own": partial(own, work, engine, requests),
        }
        order = ORDERS[number % len(ORDERS)]
        found = {who: run_side(sides[who], logs[who], server, stopped) for who in order}
        return _pair(found["ours"], found["own"]) | {"first": order[0]}

    def note(done: Sequence[Found]) -> None:
        work.keep(done)
        number = len(done) - 1
        word = f"round {number} of {work.rounds}" if number else "a round that is not counted"
        say(f"{word}: {done[-1]['ratio']:.4f} of the engine's own speed")

    done, failure = _until_one_fails([partial(both, n) for n in range(1 + work.rounds)], note)
    return _result(work, requests, isl, done, failure, engine, url) | _seen(logs)


def take_blocks(
    work: Work,
    server: Callable[[], AbstractContextManager[tuple[str, Path, int | None]]],
    own_engine: Callable[[], AbstractContextManager[OwnEngine]],
    say: Say,
    stopped: Event | None = None,
) -> Found:
    """All rounds of ours, then all of the engine's own: for one GPU, which holds one engine.

    server gives a URL that is warm, its log, and the process that started it. Otherwise as `take_turns`.
    """
    requests, isl = work.write_prompts()
    numbers = range(1 + work.rounds)
    with server() as (url, log, pid):
        rounds = [partial(ours, work, url, number, requests) for number in numbers]
        mine, failure = _until_one_fails(
            [partial(run_side, each, log, pid, stopped) for each in rounds], work.keep
        )
    if failure is not None:
        raise failure
    say(f"ours: {', '.join(map(_speed, mine))} tokens/s, the first not counted")
    with own_engine() as engine:
        work.climb(engine)
        again = partial(run_side, partial(own, work, engine, requests), engine.log, None, stopped)
        theirs, failure = _until_one_fails([again for _ in numbers])
        say(f"own: {', '.join(map(_speed, theirs))} tokens/s, the first not counted")
        done = [_pair(*both) for both in zip(mine, theirs, strict=False)]
        logs = {"ours": log, "own": engine.log}
        return _result(work, requests, isl, done, failure, engine, url) | _seen(logs)


def _until_one_fails(
    works: Sequence[Side], note: Callable[[Sequence[Found]], object] = lambda done: None
) -> tuple[list[Found], Failure | None]:
    """What they give, in turn, and what the first that failed raised; note hears after each."""
    done: list[Found] = []
    for work in works:
        try:
            done.append(work())
        except (RunError, KeyboardInterrupt) as failure:
            return done, failure
        note(done)
    return done, None


def _result(
    work: Work,
    requests: int,
    isl: float,
    done: Sequence[Found],
    failure: Failure | None,
    engine: OwnEngine,
    url: str,
) -> Found:
    """done: the first is not counted."""
    if failure is not None and len(done) < 2:
        raise failure
    warm_up, *rounds = done
    return {
        "error": None if failure is None else str(failure) or INTERRUPTED,
        "requests": requests,
        "isl": isl,
        "max_tokens": work.max_tokens,
        "detokenize": work.detokenize,
        "rounds": rounds,
        "ratio": spread([each["ratio"] for each in rounds]),
        "engine": asdict(engine.ready),
        "warm_up": warm_up,
        "commands": {
            "ours": ours_command(work.load, [url], work.round_folder(1)),
            "own": engine.command,
        },
    }


def _seen(logs: Mapping[str, Path]) -> Found:
    """Whether the engines would tell of compilations."""
    return {
        "watched": {side: watched(log) for side, log in logs.items()},
        "watches_all": {side: watches_all(log) for side, log in logs.items()},
    }


def _pair(mine: Found, theirs: Found) -> Found:
    ratio = mine["tokens_per_s"] / theirs["tokens_per_s"]
    return {"ours": mine, "own": theirs, "ratio": ratio}


def _speed(found: Found) -> str:
    return f"{found['tokens_per_s']:,.0f}"


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
