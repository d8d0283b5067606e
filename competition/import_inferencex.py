"""`import-inferencex FILE`: InferenceX's results as a baseline file, with date and source."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from competition.baseline_file import to_toml
from competition.inferencex import ImportedPoint, import_inferencex
from competition.profile import Profile
from core.errors import ConfigError, SetupError

DESCRIPTION = """Read an agg_*.json of InferenceX, the merged array, or the dashboard's JSON of
/api/v1/benchmarks, and write the best configuration of each point as a baseline file, for
`gptoss_benchmark perf --baseline FILE`."""


def main(profile: Profile, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """0 once the file is written. Raises HarnessError."""
    args = _parser().parse_args(argv)
    points = import_inferencex(
        args.file,
        print_line,
        hardware=args.hardware,
        precision=args.precision,
        model=args.model,
        tp=args.tp,
    )
    first = points[0]
    date = args.date or max(point.date for point in points) or _today()
    text = to_toml(
        points,
        id=args.id or _id(first, date),
        source=args.source or f"InferenceX, {args.file.name}",
        date=date,
        hardware=f"{first.hardware} {first.framework}",
        range_ratio=args.range_ratio,
    )
    try:
        args.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{args.output}: cannot be written ({error.strerror})") from None
    print_line(f"wrote {args.output}: {len(points)} points; perf --baseline {args.output}")
    return 0


def print_line(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _id(point: ImportedPoint, date: str) -> str:
    """As "b200_2026_07_06"."""
    return re.sub(r"[^A-Za-z0-9]+", "_", f"{point.hardware}_{date}").strip("_")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _date(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date().isoformat()
    except ValueError:
        raise ConfigError(f"--date {text}: give it as 2026-07-06") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gptoss_benchmark import-inferencex", description=DESCRIPTION
    )
    add = parser.add_argument
    add("file", type=Path)
    add("--output", type=Path, default=Path("baseline.toml"), metavar="FILE")
    add("--hardware", metavar="NAME", help="only this one, as b200, or b200-trt with the framework")
    add("--precision", metavar="NAME", help="only this one, as fp4")
    add("--model", metavar="NAME", help="only this one")
    add("--tp", type=int, metavar="N", help="only configurations of that many GPUs")
    add("--id", metavar="NAME", help="becomes part of the result file's names")
    add("--source", metavar="TEXT", help="where the file is from")
    add("--date", type=_date, metavar="YYYY-MM-DD", help="of the figures (default: the newest)")
    ratio = "the range ratio that they were measured with (default: %(default)s, InferenceX's)"
    add("--range-ratio", type=float, default=0.8, metavar="R", help=ratio)
    return parser
