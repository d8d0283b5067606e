"""A job: what is to be measured, on how many nodes, with which engine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cluster.chain import Measurement, read_chain
from cluster.fields import NAME, Fields, read_file
from cluster.site import environment
from core.errors import ConfigError

ENGINES = ("sglang", "vllm")
REHEARSALS = ("emulator", "embedded")  # engines of our own, on CPUs
TIME = r"(\d+-)?\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}"
WARN_S, WARN_SHARE = 300, 5  # before the time limit, and at most that part of it
MODEL = "openai/gpt-oss-120b"
MOST_PORT = 65_535
PLAIN = r"[^\s'\"\\%,:]+"  # a path that stands in an #SBATCH line and in a list of mounts


@dataclass(frozen=True, slots=True)
class Servers:
    """The replicas of each node, and when a job does without some."""

    engine: str
    model: str | None
    model_folder: Path | None  # to be mounted; None: a name that the engine looks up
    per_node: int
    minimum: int  # replicas of all nodes together
    port: int
    python: str | None
    flags: tuple[str, ...]  # run_server.sh's
    engine_flags: tuple[str, ...]
    ready_timeout_s: int
    patience_s: int  # that the last ones have once there are enough
    grace_s: int  # between TERM and KILL at the end
    excluded: tuple[tuple[str, str], ...]  # node -> its GPUs to leave out, such as "3,5"

    @property
    def rehearsal(self) -> bool:
        return self.engine in REHEARSALS


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    folder: Path  # of everything that it leaves
    nodes: int
    nodelist: str | None
    exclude: str | None
    time: str
    warn_s: int  # before the time limit: stop and save
    gpus_per_node: int
    check_nodes: bool
    container: bool  # whether servers run in the site's kind of container
    separate: bool  # a job for each measurement, instead of one after another in one
    environment: tuple[tuple[str, str], ...]  # on top of the site's
    servers: Servers
    chain: tuple[Measurement, ...]
    files: tuple[Path, ...]  # that have to be there


def read_job(path: Path) -> Job:
    """Raises ConfigError."""
    fields = read_file(path)
    name, nodes = fields.text("name", path.stem, NAME), fields.number("nodes", 1)
    servers = _servers(fields.section("servers"), nodes)
    chain, files = read_chain(fields)
    time = fields.text("time", None, TIME)
    job = Job(
        name=name,
        folder=_folder(fields, name),
        nodes=nodes,
        nodelist=fields.maybe("nodelist", r"[A-Za-z0-9._,\[\]-]+"),
        exclude=fields.maybe("exclude", r"[A-Za-z0-9._,\[\]-]+"),
        time=time,
        warn_s=fields.number("warn_s", min(WARN_S, max(1, seconds(time) // WARN_SHARE))),
        gpus_per_node=fields.number(
            "gpus_per_node", 0 if servers.rehearsal else servers.per_node, least=0
        ),
        check_nodes=fields.truth("check_nodes", True),
        container=fields.truth("container", not servers.rehearsal),
        separate=fields.choice("chain", ("one-job", "jobs"), "one-job") == "jobs",
        environment=environment(fields),
        servers=servers,
        chain=chain,
        files=(*files, *([servers.model_folder] if servers.model_folder else [])),
    )
    fields.end()
    if job.warn_s >= seconds(job.time):
        raise fields.error("warn_s", str(job.warn_s), f"be less than the job's time, {job.time}")
    return job


def seconds(time: str) -> int:
    """Slurm's M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return int(days or 0) * 86_400 + sum(n * unit for n, unit in zip(parts, units, strict=False))


def _folder(fields: Fields, name: str) -> Path:
    """On a file system that all nodes and this machine share."""
    folder = (fields.path("results") or fields.absolute("results")) / name
    if not re.fullmatch(PLAIN, str(folder)):
        raise fields.error("results", str(folder), "be a path without spaces, quotes, % , and :")
    return folder


def _servers(fields: Fields, nodes: int) -> Servers:
    engine = fields.choice("engine", (*ENGINES, *REHEARSALS))
    per_node = fields.number("replicas_per_node", 8)
    model = fields.maybe("model") or (None if engine in REHEARSALS else MODEL)
    folder = None
    if model and re.match(r"[/~]|\.\.?/", model):
        folder = fields.absolute(model)
        model = str(folder)
        if not re.fullmatch(PLAIN, model):
            raise fields.error("model", model, "be a path without spaces, quotes, % , and :")
    excluded = fields.pairs("exclude_gpus", NAME)
    for node, gpus in excluded.items():
        listed = gpus.split(",")
        if not re.fullmatch(r"\d+(,\d+)*", gpus) or len(set(listed)) < len(listed):
            raise fields.error(f"exclude_gpus, {node}", gpus, "be GPUs such as 3,5, each once")
        if len(listed) >= per_node:
            raise fields.error(f"exclude_gpus, {node}", gpus, "leave one; exclude leaves out nodes")
    most = nodes * per_node - sum(len(gpus.split(",")) for gpus in excluded.values())
    found = Servers(
        engine=engine,
        model=model,
        model_folder=folder,
        per_node=per_node,
        minimum=fields.number("min_replicas", most),
        port=fields.number("port", 30_000),
        python=fields.maybe("python"),
        flags=fields.words("flags"),
        engine_flags=fields.words("engine_flags"),
        ready_timeout_s=fields.number("ready_timeout_s", 5400),
        patience_s=fields.number("patience_s", 600),
        grace_s=fields.number("grace_s", 20),
        excluded=tuple(excluded.items()),
    )
    fields.end()
    if (last := found.port + per_node - 1) > MOST_PORT:
        raise fields.error("port", str(found.port), f"leave room: the last replica gets {last}")
    if found.minimum > most:
        raise ConfigError(
            f"{fields.where}: min_replicas: {found.minimum}, but {nodes} nodes have {most}"
        )
    return found
