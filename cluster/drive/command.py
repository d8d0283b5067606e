"""`python -m cluster drive PLAN`: what a rendered script calls on the job's first node."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from cluster.chain import Measurement
from cluster.collect import collect
from cluster.drive.measuring import measure
from cluster.drive.servers import Servers
from cluster.drive.stop import Stop, Stopped, say
from cluster.hostlist import hostnames
from cluster.plan import Plan, read_plan
from cluster.records import STATE, State, is_done, lock_folder, passed, store, write_json
from core.errors import ConfigError, HarnessError, RunError, SetupError

USAGE = "usage: python -m cluster drive PLAN   (rendered scripts call it, inside a job of Slurm)\n"
INTERRUPTED, NOT_PASSED = 130, 1


def main(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """0 all have passed, 1 one has not, 2-4 as everywhere, 130 ended from outside."""
    if len(argv) != 1 or argv[0].startswith("-"):
        asked = list(argv) in (["-h"], ["--help"])
        (sys.stdout if asked else sys.stderr).write(USAGE)
        return 0 if asked else 2
    try:
        plan = read_plan(_text(argv[0]))
        with Stop(plan.kill_wait_s) as stop:
            drive = Drive(plan, environ, stop)
            with lock_folder(Path(plan.folder)):
                return drive.run()
    except HarnessError as error:
        say(f"error: {error}")
        return error.exit_code
    except OSError as error:  # a full disk, a lost file system
        say(f"error: {error}")
        return RunError.exit_code


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


class Drive:
    """One job, from its nodes to its results."""

    def __init__(self, plan: Plan, environ: Mapping[str, str], stop: Stop) -> None:
        missing = [n for n in ("SLURM_JOB_ID", "SLURM_JOB_NODELIST") if not environ.get(n)]
        if missing:
            raise SetupError(f"{missing[0]} is not set: this runs inside a job; sbatch the script")
        self._plan, self._stop = plan, stop
        self._folder = Path(plan.folder)
        self._job = environ["SLURM_JOB_ID"]
        self._nodes = hostnames(environ["SLURM_JOB_NODELIST"])
        self._restarts = environ.get("SLURM_RESTART_COUNT", "0")
        self._state = State(self._job, "starting")

    def run(self) -> int:
        """Raises HarnessError."""
        plan = self._plan
        again = f", restart {self._restarts}" if self._restarts != "0" else ""
        say(f"job {self._job} ({plan.name}){again} on {len(self._nodes)} nodes")
        todo = [one for one in plan.measurements if not is_done(self._folder, one)]
        for one in plan.measurements:
            if one not in todo:
                say(f"{one.name}: is done, skipped")
        try:
            if todo:
                self._measure_all(todo)
        except Stopped as reason:
            say(f"{reason}: the servers are stopped; --resume goes on with what is missing")
        except RunError as error:
            if self._stop.reason is None:
                raise
            say(f"{self._stop.reason}: {error}")  # its servers were told to end, too
        finally:
            self._finish()
        if self._stop.reason is not None:
            return INTERRUPTED
        names = [one.name for one in plan.measurements]
        return 0 if all(passed(self._folder, name) for name in names) else NOT_PASSED

    def _measure_all(self, todo: Sequence[Measurement]) -> None:
        """Raises Stopped, RunError."""
        with Servers(self._plan, self._nodes, self._job, self._stop) as servers:
            self._note("checking the nodes", servers)
            servers.check()
            servers.prepare()
            servers.start(again=self._restarts != "0")
            self._note("starting servers", servers)
            servers.wait_until_ready()
            for one in todo:
                self._one(one, servers)
            self._note("stopping servers", servers)

    def _one(self, one: Measurement, servers: Servers) -> None:
        """Raises Stopped, RunError."""
        self._stop.pause(0)
        if missing := [name for name in one.needs if not passed(self._folder, name)]:
            say(f"{one.name}: not started: {missing[0]} has not passed")
            return
        urls = servers.living()
        self._note(f"measuring {one.name}", servers)
        done = measure(self._plan, one, urls, servers.wanted, self._job, self._stop, servers.watch)
        store(self._folder, done)
        self._stop.pause(0)

    def _note(self, phase: str, servers: Servers) -> None:
        self._write(replace(self._state, replicas=servers.count, left_out=servers.left_out), phase)

    def _write(self, state: State, phase: str) -> None:
        self._state = replace(state, phase=phase, updated=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        try:
            write_json(self._folder / STATE, asdict(self._state))
        except OSError as error:
            say(f"WARNING: {self._folder / STATE} cannot be written: {error}")

    def _finish(self) -> None:
        """The job's last word, and its table."""
        why = self._stop.reason
        self._write(self._state, f"ended: {why}" if why else "ended")
        sys.stdout.write(collect(self._folder))
        sys.stdout.flush()
