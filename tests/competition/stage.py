"""A machine of its own for the scripts: programs on PATH that only say how they were called."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.competition.launched import ran
from tests.harness import ROOT

FOLDER = ROOT / "gptoss-fp4-vllm-mi355x"


class Stage:
    """A machine of its own: HOME, a workspace, and programs that write down their arguments."""

    def __init__(self, folder: Path) -> None:
        self.home, self.bin, self.calls = folder / "home", folder / "bin", folder / "calls"
        self.workspace = folder / "workspace"
        self.bin.mkdir()
        for source in ("vllm", "aiter"):
            (self.workspace / source / "vllm").mkdir(parents=True)
            (self.workspace / source / "setup.py").touch()
            (self.workspace / source / "vllm" / "__init__.py").touch()
        for name in ("bash", "cat", "dirname", "readlink", "printf", "env", "rm", "grep", "mkdir"):
            (self.bin / name).symlink_to(f"/usr/bin/{name}")
        (self.bin / "mv").symlink_to("/usr/bin/mv")

    def program(self, name: str, code: str = "") -> None:
        file = self.bin / name
        record = f"printf '%s\\0' {name} \"$@\" >>'{self.calls}'; echo >>'{self.calls}'"
        file.write_text(f"#!/bin/bash\n{record}\n{code}\n")
        file.chmod(0o755)

    def called(self) -> list[list[str]]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line.rstrip("\0").split("\0") for line in lines]

    def run(self, name: str, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": str(self.bin), "HOME": str(self.home)} | environ
        return ran(FOLDER / name, *flags, cwd=self.bin, **given)
