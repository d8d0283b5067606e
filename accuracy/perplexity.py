"""Perplexity of a served model on raw text, as the competition's accuracy gate measures it.

python -m accuracy.perplexity --server-url http://HOST:PORT --text wiki.test.raw --tokenizer FOLDER

Loglik is the sum over all tokens of all pieces; bits_per_byte = -loglik / bytes / ln 2,
byte_perplexity = exp(-loglik / bytes), word_perplexity = exp(-loglik / Llama-2 tokens).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accuracy.perplexity_client import map_in_flight, open_client
from accuracy.perplexity_pieces import (
    BYTES_PER_WORD,
    Piece,
    Window,
    pieces_by_bytes,
    pieces_by_tokens,
    read_text,
    rolling_windows,
)
from accuracy.perplexity_tokens import Served, load_served, load_tokenizer
from backends.detect import describe, resolve
from backends.info import EngineInfo
from core.arguments import natural
from core.errors import ConfigError, HarnessError, RunError

PROBE_TIMEOUT_S = 5.0
IN_FLIGHT = 10  # the competition's num_concurrent


@dataclass(frozen=True, slots=True)
class Perplexity:
    """What the gate compares. Lower is better."""

    bits_per_byte: float
    byte_perplexity: float
    word_perplexity: float  # per Llama-2 token, not per word
    derived: bool  # word_perplexity is byte_perplexity ** 3.794, for want of Llama-2's tokenizer
    n_pieces: int
    n_bytes: int  # UTF-8
    n_tokens: int  # of the served model's tokenizer
    total_logprob: float  # natural logarithm


@dataclass(frozen=True, slots=True)
class Job:
    """One window of one piece."""

    name: str
    window: Window


def measure_perplexity(
    info: EngineInfo, pieces: Sequence[Piece], served: Served, in_flight: int = IN_FLIGHT
) -> Perplexity:
    """Score every token of every piece on the engine `info`.

    Raises RunError when a single answer is missing or wrong, ConfigError when it cannot fit.
    """
    jobs = [job for i, piece in enumerate(pieces) for job in _jobs(i, piece, served)]
    if not jobs:
        raise ConfigError("--text: no token to score; give a text that is not empty")
    longest = max(len(job.window.prompt) for job in jobs)
    if info.context_length is not None and info.context_length <= longest:
        raise ConfigError(
            f"{info.url}: its context of {info.context_length} tokens is too short for prompts of "
            f"{longest} and one generated token: serve the model with a longer one"
        )
    client = open_client(info, jobs[0].window.prompt[:2])

    def score(job: Job) -> float:
        try:
            found = client.logprobs(job.window.prompt)
        except RunError as error:
            raise RunError(f"{job.name}: {error}") from None
        return math.fsum(found[len(job.window.context) - 1 :])

    total = math.fsum(map_in_flight(score, jobs, in_flight))
    return conclude(total, pieces, sum(len(job.window.predicted) for job in jobs))


def _jobs(number: int, piece: Piece, served: Served) -> list[Job]:
    windows = list(rolling_windows(served.encode(piece.text), served.prefix))
    name = f"piece {number}, window {{}} of {len(windows)}"
    return [Job(name.format(i + 1), window) for i, window in enumerate(windows)]


def conclude(total_logprob: float, pieces: Sequence[Piece], n_tokens: int) -> Perplexity:
    """The three figures of one sum, by the task's weights."""
    n_bytes = sum(piece.n_bytes for piece in pieces)
    words = [piece.n_words for piece in pieces if piece.n_words is not None]
    derived = len(words) < len(pieces)
    n_words = n_bytes / BYTES_PER_WORD if derived else sum(words)
    per_byte = -total_logprob / n_bytes
    return Perplexity(
        bits_per_byte=per_byte / math.log(2),
        byte_perplexity=_exp(per_byte),
        word_perplexity=_exp(-total_logprob / n_words),
        derived=derived,
        n_pieces=len(pieces),
        n_bytes=n_bytes,
        n_tokens=n_tokens,
        total_logprob=total_logprob,
    )


def _exp(value: float) -> float:
    """Answers that are bad enough have a perplexity that no float holds: it is infinite then."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def cut(text: str, piece_tokenizer: Path | None) -> list[Piece]:
    """The task's pieces where Llama-2's tokenizer is given, others of the same size without."""
    if piece_tokenizer is None:
        return pieces_by_bytes(text)
    return pieces_by_tokens(text, load_tokenizer(piece_tokenizer))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, show, return the exit code (0, or that of the error shown)."""
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was measured\n")
        return 130


def _run(args: argparse.Namespace) -> int:
    info = describe(resolve(args.server_url), PROBE_TIMEOUT_S)
    text = read_text(args.text)
    pieces = cut(text, args.piece_tokenizer)
    sys.stderr.write(f"perplexity: {len(pieces)} pieces of {args.text}, {info.kind} {info.url}\n")
    served = load_served(args.tokenizer)
    found = measure_perplexity(info, pieces[: args.limit], served, args.in_flight)
    about = {
        "server": {"url": info.url, "kind": info.kind, "version": info.version},
        "model": info.model,
        "text": str(args.text),
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),  # as joined
        "whole_text": found.n_pieces == len(pieces),
    }
    document = json.dumps(figures(found) | about, allow_nan=False)
    if args.json:
        try:
            args.json.write_text(document + "\n", encoding="utf-8")
        except OSError as error:
            raise RunError(f"--json {args.json}: not written ({error.strerror})") from None
    sys.stdout.write(f"{table(found, len(pieces))}\n{document}\n")
    return 0


def figures(found: Perplexity) -> dict[str, Any]:
    """For JSON, which has no infinity: null stands for it."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(found).items()
    }


def table(found: Perplexity, n_pieces: int) -> str:
    """Some lines for a reader."""
    derived = f"  derived: byte_perplexity ** {BYTES_PER_WORD}" if found.derived else ""
    part = "" if found.n_pieces == n_pieces else f" of {n_pieces}: not comparable"
    return (
        f"bits_per_byte    {found.bits_per_byte:12.4f}\n"
        f"byte_perplexity  {found.byte_perplexity:12.4f}\n"
        f"word_perplexity  {found.word_perplexity:12.4f}{derived}\n"
        f"over {found.n_bytes} bytes, {found.n_tokens} tokens, {found.n_pieces} pieces{part}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m accuracy.perplexity", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--server-url", required=True, metavar="URL", help="an SGLang or vLLM server")
    add("--text", required=True, type=Path, metavar="FILE", help="UTF-8: WikiText-2's test split")
    tokenizer = "the served model's folder or tokenizer.json (default: gpt-oss's, of oss-harmony)"
    add("--tokenizer", type=Path, metavar="PATH", help=tokenizer)
    pieces = "Llama-2's folder or tokenizer.json, to cut the text with (default: cut by bytes)"
    add("--piece-tokenizer", type=Path, metavar="PATH", help=pieces)
    add("--in-flight", type=natural, default=IN_FLIGHT, metavar="N", help="requests at once")
    add("--json", type=Path, metavar="FILE", help="write the result here as well")
    add("--limit", type=natural, metavar="PIECES", help="only the first ones: a trial")
    return parser


if __name__ == "__main__":
    sys.exit(main())
