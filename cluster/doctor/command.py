"""`python -m cluster doctor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.doctor.examine import examine
from cluster.doctor.gather import gather
from cluster.doctor.read_machine import parse_ports
from cluster.doctor.screen import document, exit_code, render


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    facts = gather(args.python, args.ports, args.output_dir)
    groups = examine(facts)
    sys.stdout.write((document(groups, facts) if args.json else render(groups)) + "\n")
    sys.stdout.flush()
    return exit_code(groups)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cluster doctor",
        description="Say what this machine is and what stands in the way. Nothing is changed, no "
        "engine is started, and it takes less than 5 seconds.",
        epilog="Exit codes: 0 nothing fails, 1 something does, 2 wrong arguments.",
    )
    add = parser.add_argument
    add("--python", default="python3", metavar="PATH", help="the engine's python (%(default)s)")
    add("--ports", type=_ports, default=[], metavar="LIST", help="to be free, such as 30000-30007")
    add("--output-dir", type=Path, default=Path("output"), help="where the run folder will go")
    add("--json", action="store_true", help="findings and facts as one document")
    return parser


def _ports(text: str) -> list[int]:
    try:
        ports = list(parse_ports(text))
    except ValueError:
        ports = []
    if not ports or not all(0 < port < 65_536 for port in ports):
        raise argparse.ArgumentTypeError(f"{text!r}: give ports such as 30000-30007,30010")
    return ports
