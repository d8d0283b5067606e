"""A real Slurm cluster on this machine, from Python. cluster.sh makes it and takes it down."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.slurm.host import alone, cluster, command_line, state, why_not

__all__ = ["MiniSlurm", "mini_slurm", "until", "why_not"]

FINAL = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"}
FINAL |= {"OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
# Of a job that the tests themselves are run in.
FOREIGN = re.compile("SLURM|SBATCH|SRUN|SALLOC|SCANCEL|SQUEUE|SINFO|PYXIS")
FIELD = re.compile(r"(?:^| )([A-Z][\w/:]*)=(.*?)(?= [A-Z][\w/:]*=|\s*$)")  # values may have spaces


def fields(line: str) -> dict[str, str]:
    """A line of scontrol show ... -o."""
    return dict(FIELD.findall(line))


def until(condition: Callable[[], object], limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.1)


@dataclass(frozen=True)
class MiniSlurm:
    """A cluster that is up. The test's process stands beside it, as on a login node."""

    folder: Path
    nodes: tuple[str, ...]
    environment: dict[str, str]  # to call sbatch and what calls sbatch with
    instance: int
    container_log: Path | None

    @property
    def local_disk(self) -> Path:
        """As the nodes call it: each has its own there, and nobody else sees it."""
        return state(self.instance) / "disk"

    def disk_of(self, node: str) -> Path:
        """That node's local disk, as the test sees it."""
        return self.folder / "disk" / node

    def call(self, *command: str, check: bool = True, timeout: float = 60) -> str:
        """What it prints. Other `environment`s: subprocess.run."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=self.environment
        )
        assert not check or done.returncode == 0, (
            f"{shlex.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def job(self, job_id: str) -> dict[str, str]:
        """What scontrol knows: JobState, ExitCode, BatchHost, Reason, Restarts, StdOut, ..."""
        return fields(self.call("scontrol", "show", "job", "-o", job_id).splitlines()[0])

    def wait(self, job_id: str, *states: str, limit_s: float = 60) -> dict[str, str]:
        """The job, once it is in one of the states; fails when it has ended in another one."""
        deadline = time.monotonic() + limit_s
        while (job := self.job(job_id))["JobState"] not in states:
            ended = job["JobState"] in FINAL
            assert not ended and time.monotonic() < deadline, self._told(job, states)
            time.sleep(0.1)
        return job

    def _told(self, job: Mapping[str, str], states: Sequence[str]) -> str:
        log = Path(job.get("StdOut", os.devnull))
        tail = log.read_text(errors="replace")[-4000:] if log.is_file() else ""
        return (
            f"job {job['JobId']} is {job['JobState']} and not {' or '.join(states)}:"
            f" ExitCode={job['ExitCode']} Reason={job['Reason']}\n{log}:\n{tail}"
        )

    def node(self, node: str) -> dict[str, str]:
        """What scontrol knows: State, Reason, NodeAddr, AllocTRES, ..."""
        return fields(self.call("scontrol", "show", "node", "-o", node))

    def wait_idle(self, *nodes: str, limit_s: float = 30) -> None:
        """Until these nodes (default: all) are free and well."""
        names = nodes or self.nodes
        try:
            until(
                lambda: all(self.node(name)["State"] == "IDLE" for name in names),
                limit_s,
                f"{', '.join(names)} idle",
            )
        except AssertionError as error:
            told = self.call("sinfo", "--Node", "--long") + self.call("squeue")
            raise AssertionError(f"{error}\n{told}") from None

    def processes(self, node: str) -> list[str]:
        """The command lines of what runs on that node, Slurm's daemons aside."""
        pids = self.call("ip", "netns", "pids", f"ms{self.instance}-{node}").split()
        lines = (command_line(int(pid)) for pid in pids)
        return [line for line in lines if line and not line.startswith(("slurmd ", "slurmstepd:"))]

    def set_down(self, node: str) -> None:
        """As an administrator would: its jobs end or are requeued, its processes are killed."""
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def set_up(self, node: str) -> None:
        self.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.wait_idle(node)

    def power_cut(self, node: str) -> None:
        """Silence on its network, every process killed. Slurm notices in 35 s, or by set_down."""
        cluster(self.instance, "off", node)

    def power_on(self, node: str) -> None:
        """Its local disk has kept its files, /dev/shm is empty. Until Slurm has it back."""
        cluster(self.instance, "on", node)
        self.wait_idle(node, limit_s=60)

    def inside(self, node: str, *command: str) -> list[str]:
        """The command line that runs it on that node, in the cluster's folder, without Slurm."""
        pid = self._slurmd(node)
        enter = ["nsenter", "--target", str(pid), "--net", "--uts", "--mount"]
        return [*enter, "env", f"--chdir={self.folder}", *command]

    def exec(
        self, node: str, *command: str, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.inside(node, *command),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
        )

    def containers(self, job_id: str) -> list[dict[str, str]]:
        """The tasks of a job that asked for a container: node, step, rank and pyxis' options."""
        assert self.container_log, "made without container_stub"
        text = self.container_log.read_text() if self.container_log.exists() else ""
        rows = [dict(part.split("=", 1) for part in line.split("\t")) for line in text.splitlines()]
        return [row for row in rows if row["job"] == job_id]

    def _slurmd(self, node: str) -> int:
        started = [
            line.split() for line in (state(self.instance) / "pids").read_text().splitlines()
        ]
        pid = int(next(pid for pid, name in reversed(started) if name == f"slurmd-{node}"))
        assert command_line(pid).startswith("slurmd "), f"{node} is off"
        return pid


@contextmanager
def mini_slurm(
    folder: Path,
    nodes: int = 2,
    gpus: int = 8,
    gpu_type: str = "mi355x",
    gres_flags: str = "",
    container_stub: bool = False,
    instance: int = 1,
) -> Iterator[MiniSlurm]:
    """A cluster in an empty folder. Instance 0 is the fixture `slurm`; 1 can be up beside it."""
    flags = ["-n", str(nodes), "-g", str(gpus), "-t", gpu_type, "-f", gres_flags]
    log = folder / "containers.log" if container_stub else None
    if log:
        plugin = folder / "container_stub.so"
        source = Path(__file__).with_name("container_stub.c")
        subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(plugin)], check=True)
        flags += ["-p", f"required {plugin} log={log}"]
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    environment = kept | {"SLURM_CONF": str(folder / "slurm.conf")}
    names = tuple(f"n{k}" for k in range(1, nodes + 1))
    with alone(instance):
        try:
            cluster(instance, "up", *flags, str(folder))
            yield MiniSlurm(folder, names, environment, instance, log)
        finally:
            cluster(instance, "down")
