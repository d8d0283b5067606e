"""`python -m engine clock|fast|model`: start an engine, say where it listens, serve until told to.

Exit 0 on SIGTERM, SIGINT or (if so told) the end of stdin, also while a model is still loading; a
model with --until-stdin-closes only at that end. 1 when the engine itself has died.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import uvloop

from core.errors import SetupError
from core.files import raise_file_limit
from engine.asked import Card
from engine.clock import Clock, Pace
from engine.emulator import execute
from engine.model import Model
from engine.options import CHECKPOINT, parse_args
from engine.server import Options, Server
from engine.sglang_dialect import SGLang
from engine.vllm_dialect import VLLM

DIALECTS = {"both": (VLLM, SGLang), "vllm": (VLLM,), "sglang": (SGLang,)}


def main(argv: Sequence[str] | None = None) -> None:
    if (given := sys.argv[1:] if argv is None else argv)[:1] == ["fast"]:
        try:
            return execute(given[1:])
        except SetupError as error:
            sys.exit(f"engine: {error}")
    args = parse_args(argv)
    # Whatever a library prints must not get between the parent and the ready line.
    out = os.dup(1)
    os.dup2(2, 1)
    raise_file_limit()
    uvloop.run(live(args, out))


async def live(args: argparse.Namespace, out: int) -> None:
    """From the command line to the exit."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def stop(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    # A run's own model: Slurm says TERM to every process of a job, and the run still needs it.
    helper = args.kind == "model" and args.until_stdin_closes
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, (lambda _: None) if helper else stop, 0)
    if args.until_stdin_closes:
        at_end = (lambda: loop.call_soon_threadsafe(stop, 0),)
        threading.Thread(target=_wait_for_end, args=at_end, daemon=True).start()
    starting = loop.create_task(start(args, stop, out))
    starting.add_done_callback(lambda task: stop(1) if task.exception() else None)
    code = await ended
    if starting.done() and (error := starting.exception()):
        sys.stderr.write(f"engine: {error!r}\n")
    elif starting.done():
        _write_truth(args.truth, starting.result())
    # Not sys.exit: the interpreter would wait for a loading or generating thread, and unload torch.
    sys.stderr.flush()
    os._exit(code)


async def start(args: argparse.Namespace, stop: Callable[[int], None], out: int) -> Server:
    """Serve, then say so in one line of JSON."""
    generator: Clock | Model
    if args.kind == "clock":
        generator = _clock(args)
    else:
        generator = await asyncio.get_running_loop().run_in_executor(None, _model, args)
    scores = args.kind == "model" or args.logprob is not None
    dialects = [dialect(generator.card, scores) for dialect in DIALECTS[args.dialect]]
    options = Options(args.keep_alive, args.fault, args.split, args.ping, args.dev_mode)
    server = Server(generator, dialects, options, stop)
    url = await server.listen(args.host, args.port)
    if isinstance(generator, Model):
        generator.watch(server.die)
    gc.freeze()  # what has been imported need not be looked at again
    names = [dialect.name for dialect in dialects]
    ready = {"ready": url, "dialects": names, "pid": os.getpid(), "card": generator.card}
    os.write(out, orjson.dumps(ready) + b"\n")
    return server


def _clock(args: argparse.Namespace) -> Clock:
    name = args.served_name or "clock"
    card = Card(
        name,
        "clock",
        args.context,
        args.vocab,
        args.chunk,
        args.incremental,
        args.max_running,
        args.prefix_cache,
    )
    pace = Pace(args.ttft_ms, args.itl_ms, args.chunk, args.osl, args.logprob)
    return Clock(card, pace, args.max_running)


def _model(args: argparse.Namespace) -> Model:
    bundled = args.model == CHECKPOINT
    name = args.served_name or ("tiny-gpt-oss" if bundled else args.model.name)
    model = Model(args.max_running, args.cache_tokens)
    model.load(args.model, args.threads, args.seed, args.device)
    model.describe(name, args.context, args.incremental)
    return model


def _write_truth(path: Path | None, server: Server) -> None:
    if path:
        path.write_bytes(b"".join(orjson.dumps(truth) + b"\n" for truth in server.truth))


def _wait_for_end(at_end: Callable[[], object]) -> None:
    while os.read(0, 65536):
        pass
    at_end()


if __name__ == "__main__":
    main()
