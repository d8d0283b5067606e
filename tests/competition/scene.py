"""The competition's scene for tests: a copy of its folders, a server, a leaderboard, and shells."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from competition.texts import wikitext_sha256
from tests.harness import ROOT, Emulator, emulator

MODEL = "openai/gpt-oss-120b"
GOOD, BAD = "-0.1", "-9"  # logarithms per token: far under and far over the thresholds
LIMIT_S = 100.0
FOLDERS = ("gptoss-fp4-vllm-mi355x", "dsr1-fp4-sglang-mi355x")


def checkout(folder: Path, text: Path) -> Path:
    """The project as in a clone, whose competition folders a test may write into.

    Its rules take `text` for the accuracy test's own.
    """
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name in FOLDERS:
            shutil.copytree(path, folder / path.name)
        elif path.name not in (".git", "output"):
            (folder / path.name).symlink_to(path)
    # Scripts find the project by their own place, which a link would lead back to the original.
    (folder / "competition").unlink()
    shutil.copytree(ROOT / "competition", folder / "competition")
    own = wikitext_sha256(text)
    for rules in (folder / "competition" / "profiles").iterdir():
        changed = re.sub(r'text_sha256 = "\w+"', f'text_sha256 = "{own}"', rules.read_text())
        rules.write_text(changed)
    return folder


def wikitext(path: Path) -> Path:
    """Some 12,000 bytes of text."""
    lines = (f" line {i} goes on and on , with some words and {i} numbers .\n" for i in range(200))
    path.write_text("".join(lines))
    return path


@contextmanager
def server(
    *flags: str,
    logprob: str = GOOD,
    model: str = MODEL,
    chunk: int = 64,
    itl_ms: float = 0.2,
) -> Iterator[Emulator]:
    """An engine that knows what its answers are worth, and answers quickly: `chunk` tokens an event.

    Not at once, as answers that come whole are none that can be judged.
    """
    shown = ("--dialect", "vllm", "--served-name", model, "--logprob", logprob)
    shown += ("--chunk", str(chunk), "--itl-ms", str(itl_ms))
    with emulator(*shown, *flags) as found:
        yield found


@dataclass(frozen=True)
class Leaderboard:
    url: str

    def rows(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/results.json", timeout=30) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())
        return found


@contextmanager
def leaderboard(folder: Path, *flags: str) -> Iterator[Leaderboard]:
    """The real application."""
    command = [sys.executable, "-m", "competition.leaderboard", "serve", "--port", "0"]
    command += ["--database", str(folder / "leaderboard.sqlite3"), *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Leaderboard(json.loads(process.stdout.readline())["ready"])
        finally:
            process.terminate()
            process.wait(LIMIT_S)


@dataclass
class Shell:
    """A window: each script runs in a new bash, with few variables of ours."""

    folder: Path
    environ: dict[str, str]

    def start(self, script: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        with self.start(script) as process:
            out, err = process.communicate(timeout=LIMIT_S)
        return subprocess.CompletedProcess(script, process.returncode, out, err)


def shell(folder: Path, text: Path, **more: str) -> Shell:
    environ = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": os.environ["HOME"],
        "WIKITEXT": str(text),
        "LC_ALL": "C.UTF-8",
    }
    return Shell(folder, environ | more)


def wait_for(path: Path) -> None:
    """Until the file is there."""
    deadline = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def port_of(url: str) -> str:
    return url.rpartition(":")[2]
