"""What the competition's program prints, line by line as its guide shows it, and into a log file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from competition.profile import Lengths
from competition.settings import Settings
from core.errors import SetupError

RULE = "=" * 44
CHECK, CROSS = "\u2713", "\u2717"


class Console:
    """Standard output for results, standard error for remarks; a copy of both in a log."""

    def __init__(self) -> None:
        self._log: TextIO | None = None

    def show(self, text: str) -> None:
        self._write(sys.stdout, text)

    def say(self, text: str) -> None:
        self._write(sys.stderr, text)

    def error(self, error: Exception) -> None:
        text = str(error)
        self.say(text if text.startswith("ERROR: ") else f"ERROR: {text}")

    def warn(self, texts: Sequence[str]) -> None:
        for text in texts:
            self.say(f"WARNING: {text}")

    def _write(self, out: TextIO, text: str) -> None:
        try:
            out.write(f"{text}\n")
            out.flush()
        except BrokenPipeError:  # who listened has gone; what is measured must still be stored
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        if self._log is not None:
            with suppress(OSError):  # a full disk costs the copy, never the measurement
                self._log.write(f"{text}\n")
                self._log.flush()

    @contextmanager
    def logged(self, path: Path) -> Iterator[None]:
        """Copy everything into `path`, too, for the duration of the block. Raises SetupError."""
        try:
            log = path.open("a", encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{path}: cannot be written ({error.strerror})") from None
        self._log = log
        try:
            yield
        finally:
            self._log = None
            with suppress(OSError):  # as in `_write`: it would flush what could not be written
                log.close()


def block(title: str, *lines: str) -> str:
    return "\n".join((RULE, title, RULE, *lines, *((RULE,) if lines else ())))


def configuration(settings: Settings) -> str:
    return block(
        "Configuration",
        f"MODEL: {settings.model}",
        f"PORT: {', '.join(settings.urls)}",
        f"TP: {settings.tp}",
        f"CONC: {settings.concurrency}",
        f"ISL: {settings.lengths.isl}",
        f"OSL: {settings.lengths.osl}",
        f"MAX_MODEL_LEN: {settings.max_model_len}",
        f"NUM_PROMPTS: {settings.n_prompts}",
        f"RESULT_FILE: {settings.result}.json",
    )


def batch_header(
    lengths: Lengths,
    mode: str,
    concurrencies: Sequence[int],
    team: str | None,
    leaderboard: str | None,
) -> str:
    lines = [
        f"ISL: {lengths.isl}",
        f"OSL: {lengths.osl}",
        f"Mode: {mode}",
        f"CONC values: {', '.join(map(str, concurrencies))}",
    ]
    if team is not None:
        lines += [f"Team: {team}", f"Leaderboard: {leaderboard}"]
    return block("Multi-Concurrency Testing Mode", *lines)


def point_card(document: Mapping[str, Any], settings: Settings) -> str:
    """The figures of one point, and how they stand against the baseline, in words."""
    names = settings.profile.names
    lines = [
        f"Requests: {document['completed']} of {settings.n_prompts} in {document['duration']:,.1f} s",
        _row("Throughput per GPU", document["tput_per_gpu"], "tok/s/GPU (in + out)"),
        _row("Output throughput", document["output_throughput"], "tok/s"),
        _row("Interactivity", document["interactivity"], "tok/s/user"),
        *(_latency(document, name) for name in ("ttft", "tpot", "itl", "e2el")),
    ]
    compared = [
        _compared("throughput per GPU", document[names.tput_ratio], higher=True),
        _compared("median E2E", document[names.e2e_ratio], higher=False),
        _compared("interactivity", document[names.interactivity_ratio], higher=True),
    ]
    if document[names.block] is not None:
        lines += [f"vs {names.hardware}:", *compared]
    return block("Performance", *lines)


def _row(what: str, value: float | None, unit: str) -> str:
    return f"{what}: {'n/a' if value is None else f'{value:,.2f}'} {unit}"


def _latency(document: Mapping[str, Any], name: str) -> str:
    values = [document[f"{what}_{name}_ms"] for what in ("mean", "median", "p99")]
    shown = " / ".join("n/a" if value is None else f"{value:,.2f}" for value in values)
    return f"{name.upper()} mean / median / p99: {shown} ms"


def _compared(what: str, ratio: float | None, *, higher: bool) -> str:
    if ratio is None:
        return f"  {what}: n/a"
    good = ratio > 1 if higher else ratio < 1
    better = "higher" if higher else "lower"
    return f"  {what}: {ratio:.3f} x ({better} is better: {'ahead' if good else 'behind'})"
