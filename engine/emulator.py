"""The clock as a child process: compiled where there is a C compiler, otherwise Python's.

Both speak the same bytes (a test compares them). The compiled one costs microseconds an event, so
that it is the client that a benchmark measures; it is built on first use and kept by the hash of
its source.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(__file__).with_name("native") / "emulator.c"
BUILD = ROOT / "build"
COMPILERS = ("cc", "gcc", "clang")
STOP_TIMEOUT_S = 10.0
PAGE_TIMEOUT_S = 30.0


def compiler() -> str | None:
    """The path of a C compiler, if there is one."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def build(source: Path, into: Path = BUILD) -> Path:
    """Compile one C file unless that has been done; returns the program. Raises SetupError."""
    parts = [source, *sorted(source.parent.glob("*.h"))]
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:12]
    program = into / f"{source.stem}-{digest}"
    if program.exists():
        return program
    found = compiler()
    if found is None:
        raise SetupError(
            f"no C compiler ({', '.join(COMPILERS)}) to build {source.name} with: "
            "install one, for example by `apt-get install gcc libc6-dev`"
        )
    into.mkdir(parents=True, exist_ok=True)
    # Aside and then renamed: two builds at once, or one that is killed, leave no half program.
    with tempfile.TemporaryDirectory(dir=into) as aside:
        made = Path(aside) / source.stem
        command = [found, "-std=c11", "-O2", "-o", str(made), str(source), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SetupError(f"{found} cannot build {source.name}:\n{done.stderr.strip()}")
        made.replace(program)
    return program


@dataclass(frozen=True, slots=True)
class Emulator:
    """Running replicas, one URL each."""

    urls: tuple[str, ...]
    process: subprocess.Popen[str]  # of the first replica; the compiled one has all in one
    native: bool

    def truth(self) -> list[dict[str, Any]]:
        """What every replica did, request by request; replica after replica."""
        return [entry for url in self.urls for entry in json.loads(page("GET", f"{url}/truth"))]

    def reset(self) -> None:
        """Forget the truth so far."""
        for url in self.urls:
            page("POST", f"{url}/truth/reset")


def page(method: str, url: str) -> bytes:
    """What an emulator answers there. Raises OSError."""
    # No proxy from the environment: the engine is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, method=method)
    with opener.open(request, timeout=PAGE_TIMEOUT_S) as answer:
        return bytes(answer.read())


@contextmanager
def run_emulator(*flags: str, replicas: int = 1, native: bool | None = None) -> Iterator[Emulator]:
    """Emulated engines for the duration of the block; flags as of `python -m engine clock`.

    native: None takes the compiled one where there is a compiler, True requires it (SetupError),
    False takes Python's, one process per replica.
    """
    if native is None:
        native = compiler() is not None
    with ExitStack() as stack:
        if native:
            command = [str(build(SOURCE)), "--replicas", str(replicas), *flags]
            process, ready = stack.enter_context(_child(command))
            yield Emulator(tuple(ready["replicas"]), process, True)
            return
        command = [sys.executable, "-m", "engine", "clock", *flags]
        children = [stack.enter_context(_child(command)) for _ in range(replicas)]
        yield Emulator(tuple(ready["ready"] for _, ready in children), children[0][0], False)


@contextmanager
def _child(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The process and its ready line. It ends with the block, or with us, when stdin closes."""
    with subprocess.Popen(
        [*command, "--until-stdin-closes"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the harness, which then ends us
    ) as process:
        assert process.stdin and process.stdout
        try:
            line = process.stdout.readline()
            if not line:
                raise SetupError(f"the emulator did not start: {' '.join(command)}")
            yield process, json.loads(line)
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_TIMEOUT_S)
            finally:
                process.kill()


def execute(flags: Sequence[str]) -> None:
    """Become the compiled emulator (`python -m engine fast FLAGS`). Raises SetupError."""
    program = build(SOURCE)
    os.execv(program, [program.name, *flags])
