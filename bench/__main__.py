"""`python -m bench`: what the harness costs and how exact it is, beside a C client's limit.

A to G are the workloads of bench/workloads.py; each runs against the compiled emulator, and the C
client does the same work in the same run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.suite import SUITE
from bench.table import as_json, gather, markdown, rows
from core.errors import HarnessError


def main() -> int:
    args = parse_args()
    runs = []
    try:
        for key in SUITE:
            for repetition in range(args.repeat if key in args.only else 0):
                sys.stderr.write(f"{key}: {repetition + 1} of {args.repeat}\n")
                runs += [measure() for measure in SUITE[key]]
        if args.plots:
            from bench.plots import draw  # needs matplotlib, which users do not have

            draw(args.plots)
    except (HarnessError, RuntimeError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return getattr(error, "exit_code", 4)
    values = gather(runs)
    sys.stdout.write(markdown(rows(values)))
    if args.json:
        args.json.write_text(as_json(values))
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each workload (default 3)")
    parser.add_argument("--only", default="".join(SUITE), help="letters of workloads, such as AC")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw CPU per query, two PNGs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
