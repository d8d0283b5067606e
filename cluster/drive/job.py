"""One job, from its nodes to its results."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from cluster.chain import Measurement
from cluster.collect import collect
from cluster.drive.measuring import measure
from cluster.drive.servers import Servers
from cluster.drive.stop import Stop, Stopped, say
from cluster.hostlist import hostnames
from cluster.plan import Plan
from cluster.records import PLAN, STATE, State, is_done, now, store, write_json
from core.errors import RunError, SetupError

INTERRUPTED, NOT_PASSED = 130, 1


class Drive:
    """Of a plan, within a job of Slurm. Raises SetupError outside of one."""

    def __init__(self, plan: Plan, environ: Mapping[str, str], stop: Stop) -> None:
        missing = [n for n in ("SLURM_JOB_ID", "SLURM_JOB_NODELIST") if not environ.get(n)]
        if missing:
            raise SetupError(f"{missing[0]} is not set: this runs inside a job; sbatch the script")
        self._plan, self._stop = plan, stop
        self._folder = Path(plan.folder)
        self._job = environ["SLURM_JOB_ID"]
        self._nodes = hostnames(environ["SLURM_JOB_NODELIST"])
        self.restarts = int(environ.get("SLURM_RESTART_COUNT", "0"))
        self._state = State(self._job, "starting")

    def run(self) -> int:
        """The exit code; whatever happens, the table comes last."""
        again = f", restart {self.restarts}" if self.restarts else ""
        say(f"job {self._job} ({self._plan.name}){again} on {len(self._nodes)} nodes")
        problem: Exception | None = None
        try:
            write_json(self._folder / PLAN, asdict(self._plan))
            self._measure_all(self._left())
        except Stopped as reason:
            say(f"{reason}: the servers are stopped; --resume goes on with what is missing")
        except (RunError, OSError) as error:
            say(f"error: {error}")
            problem = error
        self._finish(problem)
        if self._stop.reason is not None:
            return INTERRUPTED  # also where servers that were told to end, too, were missed first
        if problem is not None:
            return RunError.exit_code
        done = (is_done(self._folder, self._plan, one) for one in self._plan.todo)
        return 0 if all(done) else NOT_PASSED

    def _left(self) -> list[Measurement]:
        """What has not passed yet."""
        left = []
        for one in self._plan.todo:
            if is_done(self._folder, self._plan, one):
                say(f"{one.name}: is done, skipped")
            else:
                left.append(one)
        return left

    def _measure_all(self, left: Sequence[Measurement]) -> None:
        """Raises Stopped, RunError."""
        if not left:
            return
        with Servers(self._plan, self._nodes, self._job, self._stop) as servers:
            self._note("checking the nodes", servers)
            servers.check()
            servers.prepare()
            servers.start(again=self.restarts > 0)
            self._note("starting servers", servers)
            servers.wait_until_ready()
            for one in left:
                self._one(one, servers)
            self._note("stopping servers", servers)

    def _one(self, one: Measurement, servers: Servers) -> None:
        """Raises Stopped, RunError."""
        self._stop.pause(0)
        for needed in self._plan.needed(one):
            if not is_done(self._folder, self._plan, needed):
                say(f"{one.name}: not started: {needed.name} has not passed")
                return
        urls = servers.living()
        self._note(f"measuring {one.name}", servers)
        done = measure(self._plan, one, urls, servers.wanted, self._job, self._stop, servers.watch)
        store(self._folder, done)
        self._stop.pause(0)

    def _note(self, phase: str, servers: Servers) -> None:
        self._write(replace(self._state, replicas=servers.count, left_out=servers.left_out), phase)

    def _write(self, state: State, phase: str) -> None:
        self._state = replace(state, phase=phase, updated=now())
        try:
            write_json(self._folder / STATE, asdict(self._state))
        except OSError as error:
            say(f"WARNING: {self._folder / STATE} cannot be written: {error}")

    def _finish(self, problem: Exception | None) -> None:
        why = self._stop.reason or problem
        self._write(self._state, f"ended: {str(why).splitlines()[0]}" if why else "ended")
        sys.stdout.write(collect(self._folder))
        sys.stdout.flush()
