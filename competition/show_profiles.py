"""`profiles`: the rule sets there are, or one of them in full."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from competition.profile import FOLDER, Profile, load_profile, profile_names


def main(profile: Profile, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    parser = argparse.ArgumentParser(prog="gptoss_benchmark profiles", description=__doc__)
    parser.add_argument("name", nargs="?", help="show the file of this one")
    args = parser.parse_args(argv)
    if args.name is not None:
        sys.stdout.write((FOLDER / f"{load_profile(args.name).name}.toml").read_text())
        return 0
    for found in map(load_profile, profile_names()):
        rules = "; ".join(
            f"{rule.lengths} CONC {','.join(map(str, rule.concurrencies))}"
            for rule in found.rules.values()
        )
        mark = "*" if found.name == profile.name else " "
        sys.stdout.write(f"{mark} {found.name}  {found.title}, {found.date}: {rules}\n")
    return 0
