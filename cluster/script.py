"""From a site and a job to the batch script: its #SBATCH lines, its environment, its plan."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.chain import Measurement
from cluster.containers import wrap
from cluster.job import Job
from cluster.plan import REPLICAS, Plan, fill
from cluster.site import Site

HARNESS = Path(__file__).resolve().parent.parent
ABOUT = """\
# Rendered from {job} for the site {site}; sbatch --test-only checks it, sbatch submits it.
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
    measurements: tuple[Measurement, ...]


def render(site: Site, job: Job) -> tuple[Script, ...]:
    """One script, or where the chain is to be separate jobs, one for each measurement."""
    if not job.separate:
        return (_script(site, job, "job", job.chain),)
    return tuple(
        _script(site, job, f"job-{number}-{one.name}", (one,))
        for number, one in enumerate(job.chain, 1)
    )


def _script(site: Site, job: Job, name: str, chain: tuple[Measurement, ...]) -> Script:
    plan = make_plan(site, job, chain)
    variables = dict(site.environment) | dict(job.environment)
    export = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    modules = [f"module load {shlex.quote(module)}" for module in site.modules]
    text = "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option.replace('#', chr(92) + '#')}" for option in _options(site, job)),
            ABOUT.format(job=job.name, site=site.name),
            "set -e",
            *([MODULES, *modules] if modules else []),
            *export,
            f"cd {shlex.quote(str(HARNESS))}",
            EXEC.format(python=shlex.quote(plan.python), plan=plan.to_json()),
            "",
        ]
    )
    return Script(name, text, plan.measurements)


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
    if gpus := gpu_request(site, job):
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


def gpu_request(site: Site, job: Job) -> str | None:
    """As the site's Slurm wants to be asked, in the header as for each step."""
    if site.gpus.request == "none" or not job.gpus_per_node:
        return None
    kind = f"{site.gpus.kind}:" if site.gpus.kind else ""
    if site.gpus.request == "gres":
        return f"--gres=gpu:{kind}{job.gpus_per_node}"
    return f"--gpus-per-node={kind}{job.gpus_per_node}"


def make_plan(site: Site, job: Job, chain: tuple[Measurement, ...]) -> Plan:
    """Raises ConfigError where no image is known."""
    python = str(site.python or HARNESS / ".venv" / "bin" / "python")
    wrapped = wrap(site, job, HARNESS, tuple(_serve(site, job)))
    folder = str(job.folder)
    servers = job.servers
    check = [*_step(site, job, "doctor"), python, "-m", "cluster", "doctor", "--json"]
    check += ["--ports", f"{servers.port}-{servers.port + servers.per_node - 1}"]
    return Plan(
        name=job.name,
        folder=folder,
        python=python,
        replicas_per_node=servers.per_node,
        min_replicas=servers.minimum,
        ready_timeout_s=servers.ready_timeout_s,
        patience_s=servers.patience_s,
        grace_s=servers.grace_s,
        kill_wait_s=site.kill_wait_s,
        domain=site.domain,
        excluded_gpus=dict(servers.excluded),
        prepare=(*_step(site, job, "prepare"), *wrapped.prepare) if wrapped.prepare else (),
        check=(*check, "--output-dir", folder) if job.check_nodes else (),
        serve=(*_step(site, job, "serve"), *wrapped.srun, *wrapped.words),
        clean=(*_step(site, job, "clean"), *wrapped.clean) if wrapped.clean else (),
        measurements=tuple(
            replace(one, words=fill(one.words, folder=folder), again=fill(one.again, folder=folder))
            for one in chain
        ),
    )


def _step(site: Site, job: Job, name: str) -> list[str]:
    """srun for one task on one node. --overlap: or a second step would wait for the first's end."""
    words = ["srun", "--overlap", "--nodes=1", "--ntasks=1", "--nodelist={node}", "--mpi=none"]
    words += [f"--job-name={name}-{{node}}", "--cpu-bind=none"]
    if site.cpus_per_node is not None:  # srun does not take it over from the job
        words.append(f"--cpus-per-task={site.cpus_per_node}")
    if gpus := gpu_request(site, job):
        words.append(gpus)
    return [*words, *site.step_options]


def _serve(site: Site, job: Job) -> Iterator[str]:
    """run_server.sh for all replicas of a node."""
    servers = job.servers
    yield from (str(HARNESS / "run_server.sh"), "--engine", servers.engine)
    if not servers.rehearsal:
        yield from ("--platform", site.gpus.platform)
        if site.gpus.name:
            yield from ("--gpu", site.gpus.name)
    if servers.model:
        yield from ("--model_path", servers.model)
    if servers.python:
        yield from ("--python", servers.python)
    yield REPLICAS
    yield from ("--host", "0.0.0.0", "--port", str(servers.port))
    yield from ("--log-dir", f"{job.folder}/nodes/{{node}}")
    yield from ("--timeout", str(servers.ready_timeout_s), "--grace", str(servers.grace_s))
    left_out = sum(len(gpus.split(",")) for _, gpus in servers.excluded)
    if servers.minimum < job.nodes * servers.per_node - left_out:
        yield from ("--min-replicas", "1", "--patience", str(servers.patience_s))
    yield from servers.flags
    if servers.engine_flags:
        yield from ("--", *servers.engine_flags)
