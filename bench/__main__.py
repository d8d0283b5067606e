"""`python -m bench`: CPU microseconds per query and per event of the whole chain, as a table."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from bench.measure import slope_us
from bench.workloads import WORKLOADS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each workload (default 3)")
    parser.add_argument("--only", help="letters of the workloads to run, for example AC")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    results = {}
    sys.stdout.write(f"{'':3}{'CPU us per':<12}{'median':>9}{'min':>9}{'max':>9}  workload\n")
    for workload in WORKLOADS:
        if args.only and workload.key not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = [slope_us(workload, Path(folder)) for _ in range(args.repeat)]
        results[workload.key] = {"per": workload.per, "cpu_us": found}
        figures = "".join(
            f"{value:9.1f}" for value in (statistics.median(found), min(found), max(found))
        )
        sys.stdout.write(f"{workload.key:3}{workload.per:<12}{figures}  {workload.title}\n")
        sys.stdout.flush()
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
