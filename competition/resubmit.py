"""`resubmit FILE`: send a stored submission again, as it was."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from competition import submit
from competition.console import Console
from competition.profile import Profile
from competition.single import send


def main(profile: Profile, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """0 when the leaderboard has it. Raises HarnessError."""
    parser = argparse.ArgumentParser(prog="gptoss_benchmark resubmit", description=__doc__)
    parser.add_argument("file", type=Path, help="RESULT.submission.json, which submit has written")
    parser.add_argument("--dry-run", action="store_true", help="show it instead of sending it")
    args = parser.parse_args(argv)
    stored = submit.load(args.file)
    if override := environ.get("LB_URL_OVERRIDE"):
        stored = replace(stored, url=submit.checked_url(override))
    out = Console()
    if args.dry_run:
        out.show(submit.dry_run_text(stored))
        return 0
    name = args.file.name.removesuffix(".json").removesuffix(".submission")
    receipt = args.file.with_name(f"{name}.receipt.json")
    send(stored, args.file, receipt, environ.get("LB_TOKEN") or None, out)
    return 0
