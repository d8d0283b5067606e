"""The launch scripts as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import ROOT
from tests.server.servers import Server, free_ports

FAKE = Path(__file__).with_name("fake_vllm.py")
VLLM = ROOT / "gptoss-fp4-vllm-mi355x" / "launch_vllm_server.sh"
SGLANG = ROOT / "dsr1-fp4-sglang-mi355x" / "launch_sglang_server.sh"
LIMIT_S = 60.0
RUN_LIMIT_S = 280.0  # importing a real engine takes minutes where the machine is busy


def clean(**more: str) -> dict[str, str]:
    """An environment of PATH and little else; python3 is the test's own."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": os.environ["HOME"]} | more


def ran(*command: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
    )


def dry_run(script: Path, cwd: Path, *flags: str, **environ: str) -> str:
    """What would be started."""
    given = clean(**{"MODEL": "openai/gpt-oss-120b", "TP": "8"} | environ)
    done = ran("bash", script, "--dry-run", *flags, cwd=cwd, **given)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Launched:
    process: subprocess.Popen[str]
    server: Server
    said: list[str]
    out: Path  # what the terminal got

    @property
    def log(self) -> Path:
        line = next(line for line in self.said if "log: " in line)
        return Path(line.rpartition("log: ")[2].strip())

    def until(self, text: str) -> None:
        """Reads what it says until a line holds `text`."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.append(line)
            if text in line:
                return
        raise AssertionError("".join(self.said))

    def end(self, *signals: signal.Signals) -> int:
        for number in signals:
            self.process.send_signal(number)
        assert self.process.stderr
        self.said += self.process.stderr.readlines()
        return self.process.wait(LIMIT_S)


@contextmanager
def launched(
    folder: Path,
    mode: str,
    *flags: str,
    script: Path = VLLM,
    odd: int = 0,
    stdout: int | None = None,
    **environ: str,
) -> Iterator[Launched]:
    """mode: of the fake engine; odd: 1 for an odd port; stdout: instead of a file."""
    python = folder / "engine-python"
    code = f"PYTHONPATH='{ROOT}' exec '{sys.executable}' '{FAKE}'"
    python.write_text(f'#!/bin/sh\n{code} "$@"\n')
    python.chmod(0o755)
    port, out = free_ports() + odd, folder / "terminal"
    given = clean(MODEL=str(folder / "model" / mode), TP="1", PORT=str(port)) | environ
    command = ["bash", str(script), "--python", str(python), "--platform", "cuda", *flags]
    with (
        out.open("w") as terminal,
        subprocess.Popen(
            command,
            cwd=folder,
            env=given,
            stdout=stdout or terminal,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            yield Launched(process, Server(process, folder, port), [], out)
        finally:
            process.terminate()
