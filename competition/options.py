"""The command line of acc, perf and submit: the competition's own, and what was added to it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backends.detect import parse_url
from competition.profile import DEFAULT, Lengths, Profile, profile_names
from competition.single import Mode, Target
from core.errors import ConfigError

DESCRIPTION = """modes (each runs what stands before it; accuracy always comes first)
  acc                   the accuracy test only                      about 5-10 min
  perf                  accuracy and performance                    about 15-20 min for one CONC
  submit TEAM           accuracy, performance, leaderboard          about 15-20 min for one CONC
With -isl N -osl N a batch over all CONC values of that pair, about 1 hour; without, one point, which
the environment variables ISL, OSL and CONC name: source specific_conc_var.sh first.

other commands: resubmit FILE | sweep | compare A B | import-inferencex FILE | profiles
"""
EPILOG = """environment: MODEL (needed) PORT TP CONC ISL OSL MAX_MODEL_LEN RANDOM_RANGE_RATIO
NUM_PROMPTS RESULT_FILENAME TEAM_NAME_ENV LB_URL_OVERRIDE LB_TOKEN SEED; for accuracy: WIKITEXT TOKENIZER
LLAMA2_TOKENIZER GSM8K_TEST GSM8K_TRAIN GSM8K_LIMIT (a trial). COMPETITION_PROFILE: as --profile.
exit codes: 0 all passed; 1 accuracy over a threshold, a failed request, a refused submission, or a batch
with a failed step; 2 a setting cannot be used; 3 something is missing; 4 the run broke; 130 Ctrl-C"""


@dataclass(frozen=True, slots=True)
class Options:
    """What was typed."""

    mode: Mode | None  # None: that of the batch that is resumed, or acc
    target: Target | None
    pairs: tuple[Lengths, ...]  # of a batch; none: one point
    resume: Path | None
    urls: tuple[str, ...]
    baseline: Path | None


def parse_options(argv: Sequence[str], profile: Profile, environ: Mapping[str, str]) -> Options:
    """Leaves with exit code 2 where a flag is wrong. Raises ConfigError."""
    args = _parser().parse_intermixed_args(argv)
    mode = None if args.mode is None else Mode(args.mode)
    if args.team is not None and mode is not Mode.SUBMIT:
        raise ConfigError(f"{args.team}: only submit takes a team's name")
    if args.dry_run and mode is not Mode.SUBMIT:
        raise ConfigError("--dry-run: only of submit, whose payload it shows")
    return Options(
        mode=mode,
        target=_target(args, environ) if mode is Mode.SUBMIT else None,
        pairs=_pairs(args, profile),
        resume=args.resume,
        urls=_urls(args.server_url),
        baseline=args.baseline,
    )


def _target(args: argparse.Namespace, environ: Mapping[str, str]) -> Target:
    team = args.team or environ.get("TEAM_NAME_ENV", "")
    if not team.strip():
        raise ConfigError('submit: no team name: submit "YourTeam", or export TEAM_NAME_ENV')
    override, token = environ.get("LB_URL_OVERRIDE") or None, environ.get("LB_TOKEN") or None
    return Target(team.strip(), override, token, args.dry_run)


def _pairs(args: argparse.Namespace, profile: Profile) -> tuple[Lengths, ...]:
    if args.all_lengths:
        if args.isl is not None or args.osl is not None:
            raise ConfigError("--all-lengths: means every pair; leave out -isl and -osl")
        return tuple(profile.rules)
    if (args.isl is None) != (args.osl is None):
        given, missing = ("-osl", "-isl") if args.isl is None else ("-isl", "-osl")
        raise ConfigError(f"{given} without {missing}: a batch needs both; leave both out for one")
    if args.isl is None:
        return ()
    lengths = Lengths(args.isl, args.osl)
    profile.rule(lengths)
    return (lengths,)


def _urls(texts: Sequence[str]) -> tuple[str, ...]:
    found = [url.strip() for text in texts for url in text.split(",") if url.strip()]
    for url in found:
        parse_url(url)
    return tuple(found)


def take_profile(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The last --profile on a command line, and the rest of the line."""
    name, rest, words = DEFAULT, [], iter(argv)
    for word in words:
        if word == "--profile":
            name = next(words, "")
        elif word.startswith("--profile="):
            name = word.partition("=")[2]
        else:
            rest.append(word)
    return name, rest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gptoss_benchmark",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # an abbreviated --profile would be taken here and change nothing
    )
    add = parser.add_argument
    add("mode", nargs="?", choices=[mode.value for mode in Mode], help="default: acc")
    add("team", nargs="?", help="submit: the team's name (or TEAM_NAME_ENV)")
    add("-isl", "--isl", type=_natural, metavar="N", help="batch: input length, with -osl")
    add("-osl", "--osl", type=_natural, metavar="N", help="batch: output length, with -isl")
    add("--all-lengths", action="store_true", help="one batch after another for all pairs")
    add("--resume", type=Path, metavar="FOLDER", help="go on with a batch: only what is missing")
    # Taken by take_profile before this parser sees the line; here for --help.
    add("--profile", choices=profile_names(), help=f"the rules (default: {DEFAULT})")
    server = "instead of the server at PORT; several, comma-separated, are replicas of TP GPUs each"
    add("--server-url", action="append", default=[], metavar="URL", help=server)
    baseline = "compare with these figures instead of the profile's (import-inferencex writes it)"
    add("--baseline", type=Path, metavar="FILE", help=baseline)
    add("--dry-run", action="store_true", help="submit: show the payload instead of sending it")
    return parser


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least 1")
    return int(text)
