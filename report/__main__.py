"""`python -m report replicas RUN_FOLDER`: what each replica of a finished run did, as a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from report.replicas import replica_table


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 2: there is no such run."""
    parser = argparse.ArgumentParser(prog="python -m report", description=__doc__)
    tables = parser.add_subparsers(dest="table", required=True)
    replicas = tables.add_parser("replicas", help="all replicas by node, stragglers marked")
    replicas.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="holds summary.json")
    path = parser.parse_args(argv).folder / "summary.json"
    try:
        text = replica_table(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"report: {path}: {error}\n")
        return 2
    except KeyError as error:
        sys.stderr.write(
            f"report: {path} has no {error}: an older version of the harness wrote it\n"
        )
        return 2
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
