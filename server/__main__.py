"""`./run_server.sh`: find the engine and the GPUs, start one replica each, keep them until told."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.errors import HarnessError, SetupError
from server import installed, machine, own, plan, variables
from server.fleet import Fleet, Stopped, say
from server.installed import Engine
from server.options import ENGINES, OWN, Options, parse_args
from server.plan import Plan, Replica
from server.script import render

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    options = parse_args(sys.argv[1:] if argv is None else argv)
    try:
        found = machine.look(options.platform, options.gpu)
        made = plan.make(options, found, _engine(options, environ), environ)
        unknown = variables.unknown(made, environ)
        if options.dry_run:
            sys.stdout.write(render(made))
            sys.stdout.write("".join(f"# WARNING: {line}\n" for line in unknown))
            return 0
        for line in (*made.notes, *unknown):
            say(line)
        return serve(made, options, environ)
    except HarnessError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:  # before anything was started
        return INTERRUPTED


def _engine(options: Options, environ: Mapping[str, str]) -> Engine:
    """A dry run may be for another machine: what is told is not looked for."""
    if options.dry_run and options.engine in ENGINES and options.engine_version:
        return Engine(options.engine, options.engine_version, options.python or "python3", None)
    try:
        if options.engine in OWN:
            return own.find(options.engine, options, environ)
        found = installed.find(options.engine, options.python, ENGINES)
    except SetupError as error:
        if not options.dry_run:
            raise
        say(f"planning without an engine: {error}")
        name = options.engine or ENGINES[0]
        return Engine(name, options.engine_version, options.python or "python3", None)
    version = options.engine_version or found.version
    return Engine(found.name, version, found.python, found.folder)


def serve(made: Plan, options: Options, environ: Mapping[str, str]) -> int:
    """Until Ctrl-C, TERM or the last replica's death. Raises HarnessError."""
    free, taken = plan.check_ports(made.replicas, options.host, options.min_replicas)
    for line in taken:
        say(f"WARNING: LEFT OUT: {line}")
    version = made.engine.version or "of unknown version"
    say(f"{made.engine.name} {version} of {made.engine.python}, recipe {made.recipe.name}")
    options.servers_file.unlink(missing_ok=True)  # whoever waits for it waits for this start
    ready = False
    with Fleet(replace(made, replicas=tuple(free)), options, environ) as fleet:
        try:
            fleet.start()
            fleet.wait_until_ready()
            ready = True
            _announce(fleet.replicas, len(made.replicas), options.servers_file)
            fleet.watch()
        except Stopped:
            say("stopping all replicas")
        finally:
            if ready:
                options.servers_file.unlink(missing_ok=True)
                say(f"removed {options.servers_file}: nothing serves there any more")
    if not ready:
        return INTERRUPTED
    return 4 if fleet.dead else 0


def _announce(ready: Sequence[Replica], of: int, file: Path) -> None:
    urls = [replica.url for replica in ready]
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.write_text("".join(f"{url}\n" for url in urls), encoding="utf-8")
    new.replace(file)
    share = "all" if len(urls) == of else f"{len(urls)} of {of}"
    say(f"{share} ready. run_mlperf.py --servers {file}; Ctrl-C ends them")
    sys.stdout.write(",".join(urls) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
