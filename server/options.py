"""The command line of run_server.sh: the MLPerf reference's flags, and ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.arguments import natural

MODEL = "openai/gpt-oss-120b"
DRAFT = "nvidia/gpt-oss-120b-Eagle3-long-context"  # the reference's head for Interactive
ENGINES = ("sglang", "vllm")  # looked for in this order
OWN = ("embedded", "emulator")  # the harness's own: never chosen by themselves, always on CPU
PLATFORMS = ("rocm", "cuda", "cpu")
LOG_DIR = Path("output") / "servers"
CACHE_DIR = Path("~/.cache/gpt-oss-harness/replicas")
PATIENCE_S = 600.0  # replicas of one machine are ready within a minute of each other
TIMEOUT_S = 5400.0  # a first start can spend 20 minutes and more in compilers
GRACE_S = 20.0  # vLLM ends within 3 s, while it loads within 30
EPILOG = """Everything after -- goes to the engine as it is, and wins over the recipe. A variable that
is set in the environment wins over the recipe, too. stdout carries one line once every replica that is
not left out has answered: the list for run_mlperf.py --server-url. Exit codes: 0 stopped by Ctrl-C or
TERM while all replicas in that list lived, 2 a setting cannot be used, 3 something is missing, 4 a
replica died, 130 stopped before they were ready."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; None where it is to be found out."""

    model: str
    engine: str | None
    engine_version: str | None
    platform: str | None
    gpu: str | None
    dp: int | None
    dp_mode: str
    gpus: tuple[str, ...] | None
    excluded: tuple[str, ...]
    stream_interval: int | None
    draft: str | None  # EAGLE3 head; None: no speculative decoding
    host: str
    port: int
    python: str | None
    log_dir: Path
    servers_file: Path
    cache_dir: Path
    min_replicas: int | None  # None: all
    patience_s: float
    timeout_s: float
    grace_s: float
    dry_run: bool
    extra: tuple[str, ...]


def parse_args(argv: Sequence[str]) -> Options:
    """Leaves with exit code 2 where a flag is wrong."""
    own, extra = _split(argv)
    args = _parser().parse_args(own)
    draft = args.eagle_path or (DRAFT if args.enable_speculative_decode else None)
    return Options(
        model=args.model_path,
        engine=args.engine,
        engine_version=args.engine_version,
        platform="cpu" if args.engine in OWN else args.platform,
        gpu=args.gpu,
        dp=args.dp,
        dp_mode=args.dp_mode,
        gpus=args.gpus,
        excluded=args.exclude_gpus,
        stream_interval=args.stream_interval,
        draft=draft,
        host=args.host,
        port=args.port,
        python=args.python,
        log_dir=args.log_dir,
        servers_file=args.servers_file or args.log_dir / "servers.txt",
        cache_dir=args.cache_dir.expanduser(),
        min_replicas=args.min_replicas,
        patience_s=args.patience,
        timeout_s=args.timeout,
        grace_s=args.grace,
        dry_run=args.dry_run,
        extra=extra,
    )


def _split(argv: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """What stands before the first -- and what after it."""
    at = list(argv).index("--") if "--" in argv else len(argv)
    return list(argv[:at]), tuple(argv[at + 1 :])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_server.sh",
        usage="%(prog)s [--model_path PATH] [--dp N] [flags] [-- the engine's own flags]",
        description="Start one gpt-oss replica per GPU (TP=1), wait until each answers, keep them.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    _add_what(parser)
    _add_where(parser)
    _add_how(parser)
    return parser


def _add_what(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model_path", "--model-path", default=MODEL, metavar="PATH", help=f"default: {MODEL}")
    what = "default: the installed one, SGLang before vLLM; embedded, emulator: the harness's own"
    add("--engine", choices=[*ENGINES, *OWN], help=what)
    what = "choose the recipe for it (default: found out); of the emulator: fast or clock"
    add("--engine-version", metavar="V", help=what)
    what = "tokens an event (default: the recipe's)"
    add("--stream_interval", "--stream-interval", type=natural, metavar="N", help=what)
    what = "EAGLE3 with 3 steps and top-k 1, the policy of Interactive"
    add(
        "--enable_speculative_decode", "--enable-speculative-decode", action="store_true", help=what
    )
    what = f"its head, switches it on, too (default: {DRAFT})"
    add("--eagle_path", "--eagle-path", metavar="PATH", help=what)
    what = "the engine's interpreter (default: the first python3 that has the engine)"
    add("--python", metavar="PATH", help=what)


def _add_where(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = "replicas (default: 1, or one per GPU of --gpus or not of --exclude-gpus)"
    add("--dp", type=natural, metavar="N", help=what)
    what = "internal: one SGLang server with --dp-size N instead of N servers"
    add("--dp-mode", choices=["replicas", "internal"], default="replicas", help=what)
    add("--platform", choices=PLATFORMS, help="default: found out")
    add("--gpu", metavar="NAME", help="choose the recipe for it, e.g. MI355X (default: found out)")
    what = "GPUs to use, such as 0,2,4-7: positions among those that this job may see"
    add("--gpus", type=_devices, metavar="LIST", help=what)
    what = "GPUs to leave out, the same way"
    add("--exclude-gpus", type=_devices, default=(), metavar="LIST", help=what)
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on (0.0.0.0: all); default %(default)s",
    )
    what = "of the first replica, the others follow (default %(default)s)"
    add("--port", type=natural, default=30000, metavar="N", help=what)


def _add_how(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = "one log a replica (default %(default)s)"
    add("--log-dir", type=Path, default=LOG_DIR, metavar="DIR", help=what)
    what = "one URL a line, for run_mlperf.py --servers (default: servers.txt in --log-dir)"
    add("--servers-file", type=Path, metavar="FILE", help=what)
    what = "compiled kernels, a folder a replica (default %(default)s)"
    add("--cache-dir", type=Path, default=CACHE_DIR, metavar="DIR", help=what)
    what = "go on without replicas that do not start, if N do (default: all must)"
    add("--min-replicas", type=natural, metavar="N", help=what)
    what = "with --min-replicas: for the others, once N are ready (default %(default)g)"
    add("--patience", type=float, default=PATIENCE_S, metavar="S", help=what)
    what = "give up when a replica has not answered by then (default %(default)g)"
    add("--timeout", type=float, default=TIMEOUT_S, metavar="S", help=what)
    what = "between TERM and KILL at the end (default %(default)g)"
    add("--grace", type=float, default=GRACE_S, metavar="S", help=what)
    add("--dry-run", action="store_true", help="print commands and environment, start nothing")


def _devices(text: str) -> tuple[str, ...]:
    """'0,2,4-6' to ('0', '2', '4', '5', '6'); what is no number (a UUID) stays as it is."""
    found: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        low, dash, high = part.partition("-")
        if dash and low.isdigit() and high.isdigit():
            found += map(str, range(int(low), int(high) + 1))
        else:
            found.append(part)
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r}: empty, or a GPU stands in it twice")
    return tuple(found)
