"""The command line of `python -m engine`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from core.arguments import natural
from engine.faults import KINDS, Fault, parse_fault

DIALECTS = ("vllm", "sglang")
CHECKPOINT = Path(__file__).with_name("checkpoint")  # made by engine.train
DESCRIPTION = """Start an engine, say where it listens, serve until told to stop. stdout carries one
line of JSON once requests are welcome; everything else goes to stderr."""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    _add_shared(shared)
    parser = argparse.ArgumentParser(prog="python -m engine", description=DESCRIPTION)
    kinds = parser.add_subparsers(dest="kind", required=True)
    _add_clock(kinds.add_parser("clock", parents=[shared], help="keeps time instead of thinking"))
    # Its flags are the compiled program's own: engine.__main__ hands them over unread.
    kinds.add_parser("fast", help="the clock, compiled: fewer flags, and --replicas N")
    _add_model(kinds.add_parser("model", parents=[shared], help="a tiny GPT-OSS"))
    return parser.parse_args(argv)


def _add_shared(parser: argparse.ArgumentParser) -> None:
    faults = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0: any free one")
    add("--dialect", choices=["both", *DIALECTS], default="both")
    add("--served-name", help="the model's name (default: clock, or the folder's name)")
    add("--incremental", action="store_true", help="SGLang streams deltas, not all ids so far")
    add("--keep-alive", type=float, default=5.0, metavar="S", help="idle limit; 0: none")
    add("--dev-mode", action="store_true", help="vLLM has /reset_prefix_cache and /server_info")
    add("--until-stdin-closes", action="store_true", help="exit when stdin reaches its end")
    add("--truth", type=Path, metavar="FILE", help="write the truth log as JSON lines at exit")
    form = "KIND[:every=N][:after=K][:times=M][:at=T]"
    add("--fault", type=_fault, action="append", default=[], metavar=form, help=faults)
    add("--split", type=natural, default=0, metavar="N", help="send writes in pieces of N bytes")
    add("--ping", action="store_true", help="comment lines between the events of a stream")


def _add_clock(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--ttft-ms", type=float, default=0.0, help="time to the first token")
    add("--itl-ms", type=float, default=0.0, help="time per token after it")
    add("--chunk", type=natural, default=1, metavar="N", help="tokens per event after the first")
    add("--osl", type=natural, metavar="N", help="tokens to answer (default: max_tokens)")
    add("--max-running", type=natural, metavar="N", help="answers at once, others queue")
    add("--context", type=natural, default=131_072, metavar="N", help="tokens, prompt and answer")
    add("--vocab", type=natural, default=201_088, metavar="N")
    add("--prefix-cache", action="store_true", help="count prompts seen before as cached")
    say = "of every prompt token, a natural logarithm (default: it gives none)"
    add("--logprob", type=_logarithm, metavar="X", help=say)


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = "a Hugging Face folder (default: the bundled, tiny one)"
    add("--model", type=_folder, default=CHECKPOINT, metavar="PATH", help=what)
    add("--device", default="cpu", metavar="cpu|cuda[:N]", help="where it calculates (default cpu)")
    add("--threads", type=natural, default=1, help="of torch")
    add("--seed", type=int, default=0, help="of sampling")
    add("--max-running", type=natural, default=32, metavar="N", help="answers at once")
    add("--context", type=natural, default=16_384, metavar="N", help="tokens, prompt and answer")
    add("--cache-tokens", type=natural, default=65_536, metavar="N", help="size of the KV cache")


def _logarithm(text: str) -> float:
    if not -math.inf < (value := float(text)) <= 0:
        raise argparse.ArgumentTypeError(f"{text}: no logarithm of a probability; give one up to 0")
    return value


def _folder(text: str) -> Path:
    """Only what is there: the library would take any other name for one to download."""
    if not (path := Path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return path


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
