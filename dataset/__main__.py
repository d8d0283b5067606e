"""`python -m dataset convert A.pkl B.parquet` and `python -m dataset describe FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import HarnessError
from dataset.convert import to_table, write_parquet
from dataset.describe import describe
from dataset.load import load_dataset


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0, or that of the error shown)."""
    args = _parser().parse_args(argv)
    try:
        sys.stdout.write(_convert(args) if args.command == "convert" else _describe(args))
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dataset", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    convert = commands.add_parser("convert", help="write a tokenized file as parquet")
    convert.add_argument("source", type=Path, help="parquet or pickle")
    convert.add_argument("target", type=Path, help="the parquet file to write")
    convert.add_argument("--force", action="store_true", help="replace the target if it exists")
    look = commands.add_parser("describe", help="show rows, lengths and checksum")
    look.add_argument("file", type=Path, help="parquet or pickle")
    return parser


def _convert(args: argparse.Namespace) -> str:
    dataset = load_dataset(args.source)
    write_parquet(to_table(dataset), args.target, force=args.force)
    return f"{args.target}: {len(dataset)} rows, {len(dataset.ids)} tokens\n"


def _describe(args: argparse.Namespace) -> str:
    return describe(load_dataset(args.file)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
