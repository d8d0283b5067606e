"""The command line of `python -m bench.gpu`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gpu.words import above_0, numbers, words
from core.arguments import at_least, natural
from core.config import LADDER_STEP

DESCRIPTION = """Measure the harness at full size: an engine on GPUs of this machine, its own tools
beside ours. Without --model_path it has gpt-oss-120b's shape and noise for weights: nothing is
downloaded.

steps
  turns        Offline through LoadGen beside the engine's own offline benchmark
  exchanged    the same with the two GPUs exchanged
  replicas     Offline over all GPUs at once
  sweep        concurrency against throughput, latency and power
  perplexity   of --text, by log-probabilities of prompts
  clients      one Server load, by ours and by the engine's own client
  server       the highest rate within Server's limits
  interactive  the same for Interactive's
  embedded     the harness's own tiny model, on the CPU and on a GPU
"""
EPILOG = """What stands after -- goes to the engine. Exit codes: 0 all steps ended well; 1 one did not,
the others are kept; 2 a setting cannot be used; 3 something is missing; 130 Ctrl-C."""
STEPS = (
    *("turns", "exchanged", "replicas", "sweep", "perplexity"),
    *("clients", "server", "interactive", "embedded"),
)
ALONE = ("turns", "exchanged", "embedded")  # have engines of their own
FOR_TWO = ("exchanged", "replicas")  # GPUs


@dataclass(frozen=True, slots=True)
class Options:
    """What was typed. Lengths in tokens, times in seconds."""

    output: Path
    model: Path | None  # None: gpt-oss-120b's shape
    python: str
    platform: str | None
    port: int | None
    gpus: tuple[int, ...]
    urls: tuple[str, ...]
    steps: tuple[str, ...]
    isl: int
    osl: int
    queries: int
    rounds: int
    qps: float
    seconds: float
    searches: int
    concurrencies: str
    lengths: str
    sweep_rounds: int
    text: Path | None
    warmup: int
    warmup_tokens: int
    timeout_s: float
    engine_flags: tuple[str, ...]

    @property
    def serving(self) -> tuple[str, ...]:
        """The steps that share one start of a server."""
        return tuple(step for step in self.steps if step not in ALONE)

    @property
    def on_gpus(self) -> bool:
        """Whether the engines are to run on GPUs, as they do unless another platform is named."""
        return self.platform != "cpu"

    @property
    def served_osl(self) -> int:
        """Of answers to Server and Interactive, whose runs are short."""
        return self.osl // 2


def parse_options(argv: Sequence[str]) -> Options:
    """Leaves with exit code 2 where a flag is wrong."""
    at = list(argv).index("--") if "--" in argv else len(argv)
    parser = _parser()
    args = parser.parse_args(argv[:at])
    steps = args.steps or _allowed(args)
    for step in FOR_TWO:
        if step in steps and len(args.gpus) < 2:
            parser.error(f"--steps {step} needs two GPUs: --gpus 0,1")
    if 0 < args.warmup_tokens < LADDER_STEP:
        parser.error(f"--warmup-tokens {args.warmup_tokens}: 0 (off), or at least {LADDER_STEP}")
    if "perplexity" in steps and args.text is None:
        parser.error("--steps perplexity needs a text: --text FILE")
    if args.text is not None and not args.text.is_file():
        parser.error(f"--text {args.text}: there is no such file")
    if args.server_url and set(steps) & {*ALONE, "replicas"}:
        parser.error(f"--server-url: leave {', '.join(ALONE)} and replicas out of --steps")
    return Options(
        output=args.output.resolve(),
        model=args.model_path and args.model_path.resolve(),
        python=args.python,
        platform=args.platform,
        port=args.port,
        gpus=args.gpus,
        urls=args.server_url,
        steps=tuple(step for step in STEPS if step in steps),
        isl=args.isl,
        osl=args.osl,
        queries=args.queries,
        rounds=args.rounds,
        qps=args.qps,
        seconds=args.seconds,
        searches=args.searches,
        concurrencies=args.conc,
        lengths=args.lengths,
        sweep_rounds=args.sweep_rounds,
        text=args.text and args.text.resolve(),
        warmup=args.warmup,
        warmup_tokens=args.warmup_tokens,
        timeout_s=args.timeout,
        engine_flags=tuple(argv[at + 1 :]),
    )


def _allowed(args: argparse.Namespace) -> list[str]:
    """All steps, less those that lack something."""
    lacking = dict.fromkeys(FOR_TWO, len(args.gpus) < 2) | {"perplexity": args.text is None}
    if args.server_url:
        lacking |= dict.fromkeys((*ALONE, "replicas"), True)
    return [step for step in STEPS if not lacking.get(step)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, count = parser.add_argument, natural
    add("--output", type=Path, default=Path("output/gpu"), metavar="DIR", help="(%(default)s)")
    add("--model_path", "--model-path", type=Path, metavar="DIR", help="the model's folder")
    add("--python", default=sys.executable, metavar="PATH", help="the engine's (default: this one)")
    add("--platform", choices=("rocm", "cuda", "cpu"), help="default: found out")
    what = "of the first replica (default: run_server.sh's)"
    add("--port", type=count, metavar="N", help=what)
    add("--gpus", type=numbers, default=(0,), metavar="N,..", help="of this machine (default 0)")
    add("--server-url", type=words, default=(), metavar="URL,..", help="servers that run already")
    add("--steps", type=_steps, metavar="S,..", help="default: all that is possible")
    add("--isl", type=count, default=1024, metavar="N", help="tokens of a prompt (%(default)s)")
    what = "of an answer (%(default)s); half of it in Server and Interactive"
    add("--osl", type=at_least(2), default=512, metavar="N", help=what)
    add("--queries", type=count, default=1024, metavar="N", help="of an Offline run (%(default)s)")
    add(
        "--rounds", type=count, default=4, metavar="N", help="of turns and of clients (%(default)s)"
    )
    add("--qps", type=above_0, default=8.0, metavar="X", help="first rate of Server (%(default)s)")
    add("--seconds", type=above_0, default=45.0, metavar="S", help="of a Server run (%(default)s)")
    add(
        "--searches", type=count, default=6, metavar="N", help="most runs of a search (%(default)s)"
    )
    add("--conc", default="4,8,16,64,256", metavar="N,..", help="of the sweep (%(default)s)")
    add("--lengths", default="1024/1024", metavar="ISL/OSL", help="of the sweep (%(default)s)")
    what = "prompts of a point by its concurrency (%(default)s)"
    add("--sweep-rounds", type=count, default=4, metavar="N", help=what)
    add("--text", type=Path, metavar="FILE", help="of the perplexity, such as WikiText-2's test")
    what = "requests a replica (%(default)s)"
    add("--warmup", type=at_least(0), default=1024, metavar="N", help=what)
    what = "and prompts of each length up to this (%(default)s)"
    add("--warmup-tokens", type=at_least(0), default=8192, metavar="N", help=what)
    add("--timeout", type=above_0, default=1800.0, metavar="S", help="for a start (%(default)g)")
    return parser


def _steps(text: str) -> tuple[str, ...]:
    found = words(text)
    if wrong := [step for step in found if step not in STEPS]:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: no such step; see --help")
    return found
