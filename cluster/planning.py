"""From a site and a job to the plan: the commands of each step, and what results depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.chain import Measurement
from cluster.containers import image_for, wrap
from cluster.job import Job
from cluster.plan import REPLICAS, Plan, fill
from cluster.site import Site

HARNESS = Path(__file__).resolve().parent.parent
CACHES = "~/.cache/gpt-oss-harness/nodes/{node}"


def gpu_request(site: Site, job: Job) -> str | None:
    """As the site's Slurm wants to be asked, in the header as for each step."""
    if site.gpus.request == "none" or not job.gpus_per_node:
        return None
    kind = f"{site.gpus.kind}:" if site.gpus.kind else ""
    if site.gpus.request == "gres":
        return f"--gres=gpu:{kind}{job.gpus_per_node}"
    return f"--gpus-per-node={kind}{job.gpus_per_node}"


def make_plan(site: Site, job: Job, here: tuple[Measurement, ...]) -> Plan:
    """here: what one job of the chain measures. Raises ConfigError where no image is known."""
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
        system=system_of(site, job),
        files=tuple(map(str, job.files)),
        nodes=job.nodes,
        replicas_per_node=servers.per_node,
        min_replicas=servers.minimum,
        ready_timeout_s=servers.ready_timeout_s,
        patience_s=servers.patience_s,
        warn_s=job.warn_s,
        grace_s=servers.grace_s,
        kill_wait_s=site.kill_wait_s,
        domain=site.domain,
        excluded_gpus=dict(servers.excluded),
        prepare=(*_step(site, job, "prepare"), *wrapped.prepare) if wrapped.prepare else (),
        check=(*check, "--output-dir", folder) if job.check_nodes else (),
        serve=(*_step(site, job, "serve"), *wrapped.srun, *wrapped.words),
        clean=(*_step(site, job, "clean"), *wrapped.clean) if wrapped.clean else (),
        here=tuple(one.name for one in here),
        measurements=tuple(
            replace(one, words=fill(one.words, folder=folder), again=fill(one.again, folder=folder))
            for one in job.chain
        ),
    )


def system_of(site: Site, job: Job) -> dict[str, Any]:
    """What results depend on, beside the measurement's own words. Time-outs and ports are not in it."""
    servers = job.servers
    style = site.container.style if job.container else "none"
    return {
        "engine": servers.engine,
        "model": servers.model,
        "image": None if style == "none" else image_for(site, job),
        "container": style,
        "python": servers.python,
        "platform": site.gpus.platform,
        "flags": list(servers.flags),
        "engine_flags": list(servers.engine_flags),
        "nodes": job.nodes,
        "replicas_per_node": servers.per_node,
        "excluded_gpus": dict(servers.excluded),
        "environment": {name: _print(value) for name, value in variables(site, job).items()},
        "modules": list(site.modules),
    }


def variables(site: Site, job: Job) -> dict[str, str]:
    """What a job exports: its own win over the site's."""
    return dict(site.environment) | dict(job.environment)


def _print(value: str) -> str:
    """Tells values apart and does not show them: one may be a password, and results are shared."""
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _step(site: Site, job: Job, name: str) -> list[str]:
    """srun for one task on one node. --overlap: or a second step would wait for the first's end."""
    words = ["srun", "--overlap", "--nodes=1", "--ntasks=1", "--nodelist={node}", "--mpi=none"]
    # --export: where sbatch was told NONE, steps would not even get what the script has exported.
    words += [f"--job-name={name}-{{node}}", "--cpu-bind=none", "--export=ALL"]
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
    if not servers.rehearsal:  # a home that nodes share: replicas 0 of two would compile into one
        yield from ("--cache-dir", CACHES)
    yield from ("--timeout", str(servers.ready_timeout_s), "--grace", str(servers.grace_s))
    yield from servers.flags
    if servers.engine_flags:
        yield from ("--", *servers.engine_flags)
