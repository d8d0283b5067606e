"""`bash launch_vllm_server.sh`: the competition's server, in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from competition.launch import planned, settings
from competition.launch.foreground import serve
from competition.profile import DEFAULT, Profile, load_profile
from core.errors import HarnessError
from server import installed, machine, options, variables
from server.fleet import say
from server.installed import Engine
from server.options import PLATFORMS
from server.plan import check_ports
from server.recipes import parse_version

CONFIG = "vllm-config.yaml"  # vLLM asks for that ending
TIMEOUT_S = 7200  # a first start compiles for 20 minutes and more
INTERRUPTED = 130
UNTAGGED = (0, 2)  # a build from a clone without tags calls itself 0.1.dev1
EPILOG = """Variables: MODEL and TP have to be exported (source specific_conc_var.sh or
all_conc_var.sh); PORT, HOST, MAX_MODEL_LEN, GPU_MEMORY_UTIL, SERVER_LOG may be, and for vLLM
BLOCK_SIZE, COMPILE_SIZES, CUDAGRAPH_CAPTURE_SIZES (such as 1,2-128:2,256) and CUDAGRAPH_MODE.
Everything after -- goes to the engine and wins. Exit codes: 0 stopped by Ctrl-C or TERM, 1 MODEL or
TP is missing, 2 a setting cannot be used, 3 something is missing, 4 the engine died or did not
answer in time, 130 stopped before it was ready."""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    args, extra = _parser().parse_args(words[:at]), words[at + 1 :]
    try:
        profile = load_profile(args.profile)
        return _launch(profile, args, extra, environ)
    except HarnessError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:  # before anything was started
        return INTERRUPTED


def _launch(
    profile: Profile, args: argparse.Namespace, extra: Sequence[str], environ: Mapping[str, str]
) -> int:
    """Raises HarnessError."""
    exported = settings.read(profile, environ)
    found, engine = machine.look(args.platform), _engine(profile, args)
    with tempfile.TemporaryDirectory(prefix=f"{engine.name}-config-") as folder:
        config = Path("/tmp" if args.dry_run else folder) / CONFIG
        plan, text = planned.make(exported, found, engine, environ, extra, config)
        unknown = variables.unknown(plan, environ)
        if args.dry_run:
            sys.stdout.write(planned.render(plan, config, text))
            sys.stdout.write("".join(f"# WARNING: {line}\n" for line in unknown))
            return 0
        say(f"log: {exported.log}")
        for line in (*plan.notes, *unknown):
            say(line)
        check_ports(plan.replicas, exported.host)
        config.write_text(text, encoding="utf-8")
        limits = ["--timeout", str(args.timeout), "--grace", str(args.grace)]
        following = f"In a new window: source {profile.folder}'s variables again, then measure"
        return serve(plan, options.parse_args(limits), environ, following)


def _engine(profile: Profile, args: argparse.Namespace) -> Engine:
    """A dry run may be for another machine. Raises SetupError."""
    if args.dry_run and args.engine_version:
        return Engine(profile.engine, args.engine_version, args.python or "python3", None)
    try:
        found = installed.find(profile.engine, args.python, [profile.engine])
    except HarnessError as error:
        if not args.dry_run:
            raise
        say(f"planning without an engine: {error}")
        return Engine(profile.engine, None, args.python or "python3", None)
    version = args.engine_version or found.version
    if version and parse_version(version) < UNTAGGED:
        say(f"{found.name} says version {version}: built without the tags, taken for a new one")
        version = None
    return Engine(found.name, version, found.python, found.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="launch_vllm_server.sh (launch_sglang_server.sh)",
        usage="bash %(prog)s [flags] [-- the engine's own flags]",
        description="Start the competition's server in the foreground; output also goes to its log.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--profile", default=DEFAULT, metavar="NAME", help="default: the folder's (%(default)s)")
    add("--dry-run", action="store_true", help="print configuration and command, start nothing")
    add("--platform", choices=PLATFORMS, help="default: found out")
    add("--engine-version", metavar="V", help="choose the recipe for it (default: found out)")
    what = "the engine's interpreter (default: the first python3 that has the engine)"
    add("--python", metavar="PATH", help=what)
    what = "give up when the server has not answered by then (default %(default)s)"
    add("--timeout", type=float, default=TIMEOUT_S, metavar="S", help=what)
    what = "between TERM and KILL at the end (default %(default)g)"
    add("--grace", type=float, default=options.GRACE_S, metavar="S", help=what)
    return parser


if __name__ == "__main__":
    sys.exit(main())
