"""From a site and a job to the batch script: its #SBATCH lines, its environment, its plan."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from cluster import planning
from cluster.chain import Measurement
from cluster.job import Job
from cluster.plan import Plan
from cluster.site import Site

ABOUT = """\
# Rendered from {job} for the site {site}; sbatch --test-only checks it. To submit it by hand:
#   mkdir -p {folder} && sbatch THIS_FILE     (without the folder Slurm can write no log)
#   This script runs on the job's first node and becomes the orchestrator, outside any container.
#   It starts one step a node with the plan's "serve" (one replica per GPU there), waits until they
#   answer, runs the measurements one after another against all of them, and stops the steps.
#   USR1 comes before the time limit: what runs then is ended, saved and marked INTERRUPTED."""
MODULES = """\
# shellcheck source=/dev/null
type module >/dev/null 2>&1 || source /etc/profile.d/modules.sh"""
EXEC = """\
# exec: Slurm signals the batch script's own process.
exec {python} -m cluster drive /dev/stdin <<'PLAN'
{plan}
PLAN"""


@dataclass(frozen=True, slots=True)
class Script:
    """One job for Slurm."""

    name: str  # of its file
    text: str
    plan: Plan


def render(site: Site, job: Job) -> tuple[Script, ...]:
    """One script, or where the chain is to be separate jobs, one for each measurement."""
    if not job.separate:
        return (_script(site, job, "job", job.chain),)
    return tuple(
        _script(site, job, f"job-{number}-{one.name}", (one,))
        for number, one in enumerate(job.chain, 1)
    )


def _script(site: Site, job: Job, name: str, here: tuple[Measurement, ...]) -> Script:
    plan = planning.make_plan(site, job, here)
    variables = planning.variables(site, job)
    export = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    modules = [f"module load {shlex.quote(module)}" for module in site.modules]
    text = "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option.replace('#', chr(92) + '#')}" for option in _options(site, job)),
            ABOUT.format(job=job.name, site=site.name, folder=job.folder),
            "set -e",
            *([MODULES, *modules] if modules else []),
            *export,
            f"cd {shlex.quote(str(planning.HARNESS))}",
            EXEC.format(python=shlex.quote(plan.python), plan=plan.to_json()),
            "",
        ]
    )
    return Script(name, text, plan)


def _options(site: Site, job: Job) -> Iterator[str]:
    yield f"--job-name={job.name}"
    named = ("partition", "account", "qos", "reservation")
    values = (site.partition, site.account, site.qos, site.reservation)
    yield from (f"--{name}={value}" for name, value in zip(named, values, strict=True) if value)
    yield f"--nodes={job.nodes}"
    yield "--ntasks-per-node=1"
    if site.cpus_per_node is not None:
        yield f"--cpus-per-task={site.cpus_per_node}"
    if site.exclusive:
        yield "--exclusive"
    if gpus := planning.gpu_request(site, job):
        yield gpus
    if job.nodelist:
        yield f"--nodelist={job.nodelist}"
    if job.exclude:
        yield f"--exclude={job.exclude}"
    yield f"--time={job.time}"
    yield f"--signal=B:USR1@{job.warn_s}"
    yield "--no-kill"  # a node that is lost costs its replicas, not the job
    yield "--requeue"
    yield "--open-mode=append"
    yield f"--output={job.folder}/slurm-%j.log"
    yield from site.options
