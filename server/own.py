"""The harness's own engines, to rehearse a cluster's job without a GPU or weights: the tiny model
("embedded"), and the emulator, compiled where that can be had.

Both are `python -m engine KIND` of the harness's own environment, and speak vLLM's dialect. What is
an engine's version elsewhere is here its kind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from core.errors import ConfigError, SetupError
from server.installed import PROBE_LIMIT_S, Engine
from server.options import MODEL, Options
from server.recipes import Recipe

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"embedded": ("model",), "emulator": ("fast", "clock")}
LIBRARIES = {
    "embedded": ("orjson", "uvloop", "torch", "transformers"),
    "emulator": ("orjson", "uvloop"),
}
REMEDIES = {"embedded": "./setup.sh --engine embedded", "emulator": "./setup.sh"}
MOST_THREADS = 8  # a tiny model gains nothing from more
MISSING = """
import importlib.util, json, sys
sys.stdout.write(json.dumps([name for name in sys.argv[1:] if not importlib.util.find_spec(name)]))
"""
# The compiled one on trial: it may not be built here, nor know the flags; it ends with its stdin.
TRIAL = """
import subprocess, sys
from engine.emulator import SOURCE, build
command = [build(SOURCE), *sys.argv[1:], "--until-stdin-closes"]
sys.exit(subprocess.run(command, stdin=subprocess.DEVNULL).returncode)
"""


def recipe(engine: str) -> Recipe:
    """They need none."""
    return Recipe("own", engine, "cpu", (), "", "", None, (), (), "python -m engine", "2026-11", "")


def find(name: str, options: Options, environ: Mapping[str, str]) -> Engine:
    """The engine in an interpreter that has its libraries. Raises ConfigError, SetupError."""
    kind, kinds = options.engine_version, KINDS[name]
    if kind is not None and kind not in kinds:
        raise ConfigError(f"--engine-version {kind}: of {name} there is {' or '.join(kinds)}")
    own = ROOT / ".venv" / "bin" / "python"
    python = options.python or (str(own) if own.exists() else sys.executable)
    asked = _ask(python, MISSING, LIBRARIES[name], environ)
    if asked.returncode:
        raise SetupError(f"{python} cannot be asked for its libraries: {asked.stderr.strip()}")
    if missing := json.loads(asked.stdout):
        raise SetupError(
            f"--engine {name}: {python} has no {', '.join(missing)}: run {REMEDIES[name]}, or name "
            "an interpreter that has them with --python"
        )
    if kind is None:
        compiled = "fast" in kinds and not _ask(python, TRIAL, options.extra, environ).returncode
        kind = "fast" if compiled else kinds[-1]
    return Engine(name, kind, python, None)


def _ask(
    python: str, code: str, arguments: tuple[str, ...], environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Raises SetupError where the interpreter does not run."""
    try:
        return subprocess.run(
            [python, "-c", code, *arguments],
            env={**environ, **environment(environ)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_LIMIT_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"{python} does not run: {error}") from None


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The harness is imported from its folder, whatever folder one stands in, which hides nothing.

    Not by that folder as the working one: paths after -- are the caller's.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def check(engine: str, options: Options) -> None:
    """Raises ConfigError."""
    told = engine == "embedded" and options.model != MODEL and not options.dry_run
    if told and not Path(options.model).is_dir():
        raise ConfigError(f"--model_path {options.model}: no such folder; without it: the bundled")


def embedded(
    version: str | None, options: Options, recipe: Recipe, port: int, dp: int
) -> tuple[list[str], list[str]]:
    share = len(os.sched_getaffinity(0)) // (options.dp or 1)
    own = [] if options.model == MODEL else [f"--model={options.model}"]
    own.append(f"--threads={max(1, min(share, MOST_THREADS))}")
    return _start("model", options, port), own


def emulator(
    version: str | None, options: Options, recipe: Recipe, port: int, dp: int
) -> tuple[list[str], list[str]]:
    interval = options.stream_interval
    own = [f"--chunk={interval}"] if interval else []
    return _start(version or "clock", options, port), own


def _start(kind: str, options: Options, port: int) -> list[str]:
    where = [f"--host={options.host}", f"--port={port}"]
    return ["-m", "engine", kind, *where, "--dialect=vllm"]
