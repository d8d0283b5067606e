"""The steps that are commands of the harness: its sweep, and its perplexity."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.gpu.markdown import markdown
from bench.gpu.options import Options
from bench.gpu.ours import ROOT, Found
from competition.profile import Lengths
from competition.settings import result_name
from competition.sweep import TABLE
from competition.sweep_options import ABOUT
from core.errors import RunError
from results.records import read_parquet

PROFILE = "gptoss-fp4-vllm-mi355x"  # whose sweep is taken; it names no hardware of ours
PERPLEXITY_FLAGS = ("--in-flight", "32")
PERPLEXITY_HEAD = ("tokens", "pieces", "seconds", "tokens/s", "word_perplexity")


def sweep(options: Options, url: str, gpus: Sequence[int], folder: Path) -> Found:
    """Every point with when it was measured; an `error` beside them when one failed. Raises RunError
    when the sweep left nothing."""
    command = [
        *(sys.executable, "-m", "competition", "--profile", PROFILE, "sweep"),
        *("--server-url", url, "--lengths", options.lengths, "--tp", "1"),
        *("--conc", options.concurrencies, "--num-prompts-per-conc", str(options.sweep_rounds)),
        *("--range-ratio", "1.0", "--output", str(folder)),
        # Servers that others started may be on other machines.
        *(("--power", ",".join(map(str, gpus))) if options.on_gpus and not options.urls else ()),
    ]
    error = None
    try:
        _run(command, folder.with_suffix(".txt"))
    except RunError as failure:
        if not (folder / TABLE).exists():
            raise
        error = str(failure)
    about = json.loads((folder / ABOUT).read_text())
    for point in about["results"]:
        name = result_name(Lengths(point["isl"], point["osl"]), point["conc"])
        if (queries := folder / name / "queries.parquet").exists():
            point["began_s"], point["ended_s"] = measured_between(queries)
    if error is not None:
        error = "; ".join((error, *about["failures"]))
    return {"error": error, "command": command, **about, "table": (folder / TABLE).read_text()}


def measured_between(queries: Path) -> tuple[float, float]:
    """From the first request to the last answer, in seconds since 1970, by the records.

    A point's own `date` is cut to the second, and is from before its client's processes start.
    """
    records, since_1970_ns = read_parquet(queries), time.time_ns() - time.monotonic_ns()
    sent_ns, last_ns = records["sent_ns"][records["sent_ns"] > 0], records["done_ns"].max()
    first_ns = sent_ns.min(initial=last_ns)
    return (int(first_ns) + since_1970_ns) / 1e9, (int(last_ns) + since_1970_ns) / 1e9


def sweep_table(result: Found) -> str:
    """The sweep's own, and what was compiled while its points were measured."""
    points = [p for p in result["results"] if p.get("compiles") is not None]
    compiled = [f"{p['compiles']} at {p['conc']}" for p in points]
    last = f"\nKernels compiled while measured: {', '.join(compiled)}.\n" if compiled else ""
    return f"{result['table']}{last}"


def perplexity(options: Options, url: str, said: Path) -> Found:
    """Of the options' text; the command's words go to `said`. Raises RunError."""
    command = [
        *(sys.executable, "-m", "accuracy.perplexity", "--server-url", url),
        *("--text", str(options.text), *PERPLEXITY_FLAGS),
        *(("--tokenizer", str(options.model)) if options.model else ()),  # else gpt-oss's
    ]
    began = time.monotonic()
    output = _run(command, said)
    seconds = time.monotonic() - began
    found: Found = json.loads(output.splitlines()[-1])
    found |= {"seconds": seconds, "tokens_per_s": found["n_tokens"] / seconds, "command": command}
    return found


def perplexity_table(found: Found) -> str:
    """In Markdown: one line."""
    line = (
        f"{found['n_tokens']:,}",
        f"{found['n_pieces']}",
        f"{found['seconds']:.1f}",
        f"{found['tokens_per_s']:,.0f}",
        f"{found['word_perplexity'] or 'infinite'}",
    )
    return markdown(PERPLEXITY_HEAD, [line])


def _run(command: Sequence[str], said: Path) -> str:
    """stdout; both streams are kept in the file. Raises RunError."""
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    said.write_text(done.stdout + done.stderr)
    if done.returncode:
        raise RunError(f"{' '.join(command[1:4])} ended with {done.returncode}: {said}")
    return done.stdout
