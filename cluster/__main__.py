"""`python -m cluster COMMAND`. doctor and drive need a bare Python 3.11 alone: doctor also runs in an
engine's container."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

COMMANDS = {
    "doctor": ("cluster.doctor.command:main", "what this machine is and what stands in the way"),
    "render": ("cluster.submit:main_render", "print the batch script of a job for Slurm"),
    "submit": ("cluster.submit:main_submit", "submit it"),
    "status": ("cluster.status:main", "where a submitted job stands"),
    "collect": ("cluster.collect:main", "what a job has measured"),
    "drive": ("cluster.drive.command:main", "the orchestrator, called by rendered scripts"),
}


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        lines = [f"  {name:10} {told}" for name, (_, told) in COMMANDS.items()]
        asked = bool(argv) and argv[0] in ("-h", "--help")
        out = sys.stdout if asked else sys.stderr
        out.write("\n".join(["usage: python -m cluster COMMAND [--help]", *lines, ""]))
        return 0 if asked else 2
    module, name = COMMANDS[argv[0]][0].split(":")
    command: Callable[[Sequence[str]], int] = getattr(import_module(module), name)
    return command(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
