"""The harness's own engines behind run_server.sh, as real processes; and none outlives it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from engine.emulator import compiler
from server.ready import generate
from tests.harness import ROOT
from tests.server.servers import launched, wait_for
from tests.server.test_dry_run import commands, dry_run

CHECKPOINT = ROOT / "engine" / "checkpoint"
KINDS = ["clock", pytest.param("fast", marks=pytest.mark.skipif(not compiler(), reason="no C"))]


def named(folder: Path) -> tuple[str, ...]:
    """By which a test finds the processes."""
    return "--served-name", str(folder / "model")


@pytest.mark.parametrize("kind", KINDS)
def test_the_emulator_answers_and_dies_with_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hidden')")
    own = ("--engine", "emulator", "--engine-version", kind, "--platform", "rocm", "--dp", "2")
    with launched(tmp_path, *own, "--host", "0.0.0.0", "--", "--osl", "3", *named(tmp_path)) as it:
        urls = it.urls().split(",")
        ports = [it.port, it.port + 1]
        assert [int(url.rpartition(":")[2]) for url in urls] == ports, it.said
        assert urls[0].startswith((f"http://{socket.gethostname()}:", "http://127.0.0.1:"))
        for port in ports:
            generate("vllm", "127.0.0.1", port, 10)
        assert it.servers_file.read_text().split() == urls
        assert len(it.left()) == 2
        it.process.kill()
        wait_for(lambda: it.left() == [])


@pytest.mark.parametrize(
    ("flags", "kind"), [(("--fault", "close:after=9"), "clock"), (("--osl", "5"), "fast")]
)
def test_the_compiled_one_is_taken_where_it_knows_the_flags(
    flags: tuple[str, ...], kind: str
) -> None:
    if compiler() is None:
        kind = "clock"
    (words,) = commands("--engine", "emulator", "--", *flags, **environment())
    words = [word for word in words if word.strip()]  # shlex keeps continued lines' ends
    told = words[words.index("engine") + 1 : words.index("2>&1") - 1]
    where = ["--host=127.0.0.1", "--port=30000", "--dialect=vllm"]
    assert told == [kind, *where, *flags]


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"]}


def test_the_command_of_the_embedded_one(tmp_path: Path) -> None:
    own = ("--engine", "embedded", "--platform", "cuda", "--gpu", "H200")
    first, second = commands(*own, "--dp", "2", PYTHONPATH="/p", **environment())
    assert {f"PYTHONPATH={ROOT}:/p", "PYTHONSAFEPATH=1", "model", "--threads=8"} <= set(first)
    assert not any(word.startswith("--model") for word in first)
    assert "--port=30001" in second
    folder = f"--model_path={tmp_path}"
    (words,) = commands(*own, folder, "--", "--threads", "3", **environment())
    assert f"--model={tmp_path}" in words and "--threads=8" not in words
    (words, *_) = commands(*own, "--dp", "5", **environment())
    assert "--threads=3" in words


def test_two_embedded_ones_answer(tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(CHECKPOINT)
    own = ("--engine", "embedded", "--model_path", str(tmp_path / "model"))
    with launched(tmp_path, *own, "--dp", "2") as started:
        assert len(started.urls().split(",")) == 2, started.said
        assert len(started.left()) == 2
        assert started.end(signal.SIGTERM) == 0
        assert started.left() == []


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--engine-version", "0.32.0"], 2, "of emulator there is fast or clock"),
        (["--dp-mode", "internal"], 2, "emulator has none"),
        (["--", "--replicas", "2"], 2, "give --dp before --"),
        (["--", "--dialect=sglang"], 2, "speaks vLLM's"),
    ],
)
def test_what_cannot_be_told(flags: list[str], code: int, said: str) -> None:
    found, out, errors = dry_run("--engine", "emulator", *flags, **environment())
    assert (found, out) == (code, "") and said in errors


def test_what_is_missing(tmp_path: Path) -> None:
    bare = tmp_path / "python3"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    with launched(tmp_path, "--engine", "embedded", "--python", str(bare)) as started:
        assert started.end() == 3
        assert f"{bare} has no orjson, uvloop, torch, transformers" in started.said
        assert "./setup.sh --engine embedded" in started.said
    with launched(tmp_path, "--engine", "embedded", "--model_path", "no/where") as started:
        assert started.end() == 2
        assert "--model_path no/where: no such folder" in started.said
