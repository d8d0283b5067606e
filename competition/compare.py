"""`compare A B`: whether B is faster than A, and whether the requests measured can show it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from competition.compare_files import Place, Result, read_side
from competition.compare_pairs import Pair, compare, differences
from competition.compare_text import NOISE, as_json, table, verdict
from competition.console import Console
from competition.files import write_json
from competition.profile import Profile
from core.errors import ConfigError

Side = Mapping[Place, Result]
FORMS = "a RESULT.json, a result's folder, or a batch's or sweep's folder"


def main(profile: Profile, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """0, whoever is faster. Raises ConfigError for what cannot be compared."""
    args, out = _parser().parse_args(argv), Console()
    a, b = read_side(args.a), read_side(args.b)
    pairs = _pairs(a, b, any_verdict=args.any)
    only = {"A": sorted(a.keys() - b.keys()), "B": sorted(b.keys() - a.keys())}
    warnings = [*differences(pairs), *_unrecorded(pairs)]
    found = as_json(pairs, only, warnings)
    out.warn(warnings)
    out.show(table(pairs))
    for side, places in only.items():
        if places:
            out.show(f"only in {side}: {', '.join(map(str, places))}")
    out.show(f"\n{verdict(pairs)}\n{NOISE}")
    if args.json is not None:
        write_json(args.json, found)
    sys.stdout.write(f"{json.dumps(found)}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gptoss_benchmark compare", description=__doc__)
    parser.add_argument("a", type=Path, metavar="A", help=f"before: {FORMS}")
    parser.add_argument("b", type=Path, metavar="B", help="after: the same")
    parser.add_argument("--any", action="store_true", help="also results that have not passed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON document")
    return parser


def _pairs(a: Side, b: Side, *, any_verdict: bool) -> list[Pair]:
    """What both have. Raises ConfigError."""
    places = sorted(a.keys() & b.keys())
    if not places:
        sides = "; ".join(
            f"{name} has {', '.join(map(str, sorted(side)))}" for name, side in (("A", a), ("B", b))
        )
        raise ConfigError(f"A and B have no point in common: {sides}")
    both = [(a[place], b[place]) for place in places]
    failed = [result for pair in both for result in pair if not result.passed]
    if failed and not any_verdict:
        shown = ", ".join(f"{result.file} ({result.document['verdict']})" for result in failed)
        raise ConfigError(f"{shown}: not PASSED; measure again, or compare all the same with --any")
    return [compare(*pair) for pair in both]


def _unrecorded(pairs: Sequence[Pair]) -> list[str]:
    """Where no interval can be given, and why."""
    return [
        f"no intervals at {pair.place}: {result.file}: {result.lack}"
        for pair in pairs
        for result in (pair.a, pair.b)
        if result.lack
    ]
