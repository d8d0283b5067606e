"""`python -m competition`, as gptoss_benchmark calls it: acc, perf, submit, and further commands."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from client.signals import interrupt_once
from competition.baseline_file import with_baselines
from competition.batch import ABOUT, Batch, new_folder, run_batch
from competition.console import Console
from competition.files import read_json
from competition.options import Options, parse_options, take_profile
from competition.profile import Lengths, Profile, load_profile
from competition.settings import Settings, read_settings
from competition.single import INTERRUPTED_CODE, Mode, run_single
from core.errors import ConfigError, HarnessError

Command = Callable[[Profile, Sequence[str], Mapping[str, str]], int]
COMMANDS = {  # name -> module with a `main` of that signature
    "resubmit": "competition.resubmit",
    "sweep": "competition.sweep",
    "compare": "competition.compare",
    "import-inferencex": "competition.import_inferencex",
    "profiles": "competition.show_profiles",
}


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    interrupt_once(signal.SIGTERM)
    out = Console()
    try:
        name, rest = take_profile(sys.argv[1:] if argv is None else argv)
        profile = load_profile(name)
        if rest and rest[0] in COMMANDS:
            command: Command = import_module(COMMANDS[rest[0]]).main
            return command(profile, rest[1:], environ)
        return _run(parse_options(rest, profile, environ), profile, environ, out)
    except HarnessError as error:
        out.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        out.say("interrupted")
        return INTERRUPTED_CODE


def _run(options: Options, profile: Profile, environ: Mapping[str, str], out: Console) -> int:
    if options.baseline is not None:
        if options.mode is Mode.SUBMIT:
            raise ConfigError(
                f"--baseline {options.baseline}: a leaderboard compares with its own baseline; use "
                "it with perf"
            )
        profile = with_baselines(profile, options.baseline)
    if options.resume is not None:
        return _resume(options, options.resume, profile, environ, out)
    mode = options.mode or Mode.ACC
    settings = read_settings(profile, environ, options.urls, batch=bool(options.pairs))
    if not options.pairs:
        run_single(mode, settings, options.target, environ, out)
        return 0
    codes = []
    for lengths in options.pairs:
        batch = _batch(options, mode, lengths, settings, new_folder(lengths), resumed=False)
        ended = run_batch(batch, environ, out)
        codes.append(ended.code)
        if not ended.go_on:
            break
    return max(codes)


def _resume(
    options: Options, folder: Path, profile: Profile, environ: Mapping[str, str], out: Console
) -> int:
    """Go on with a batch, in its own mode unless another one is typed."""
    about = read_json(folder / ABOUT)
    try:
        lengths, began = Lengths(about["isl"], about["osl"]), Mode(about["mode"])
    except (KeyError, ValueError) as error:
        raise ConfigError(f"--resume {folder}: {ABOUT} is not a batch's ({error})") from None
    if options.pairs not in ((), (lengths,)):
        raise ConfigError(f"--resume {folder}: it is a batch of ISL/OSL {lengths}")
    mode = options.mode or began
    if mode is Mode.SUBMIT and options.target is None:
        raise ConfigError(f'--resume {folder}: it submits: submit "YourTeam" --resume {folder}')
    settings = read_settings(profile, environ, options.urls, batch=True)
    batch = _batch(options, mode, lengths, settings, folder, resumed=True)
    return run_batch(batch, environ, out).code


def _batch(
    options: Options,
    mode: Mode,
    lengths: Lengths,
    settings: Settings,
    folder: Path,
    *,
    resumed: bool,
) -> Batch:
    target = options.target if mode is Mode.SUBMIT else None
    return Batch(mode, lengths, settings, target, folder, resumed)


if __name__ == "__main__":
    sys.exit(main())
