"""A site: what is the same for every job on one cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cluster.doctor.read_env import SECRET
from cluster.fields import NAME, Fields, read_file
from core.errors import ConfigError

STYLES = ("none", "enroot", "pyxis", "docker", "podman")
REQUESTS = ("gres", "gpus-per-node", "none")
PLATFORMS = ("rocm", "cuda", "cpu")
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
WORD = r"[^\s'\"\\]+"  # stands in an #SBATCH line without quotes
PYXIS_FLAGS = {
    "rocm": ("--container-writable", "--container-remap-root", "--no-container-entrypoint"),
    "cuda": ("--container-writable", "--no-container-entrypoint", "--no-container-mount-home"),
    "cpu": ("--container-writable", "--no-container-entrypoint", "--no-container-mount-home"),
}


@dataclass(frozen=True, slots=True)
class Gpus:
    """What a node has, and how Slurm is asked for it."""

    platform: str
    per_node: int
    request: str
    kind: str | None  # Slurm's name of the type, as in --gres=gpu:mi355x:8
    name: str | None = None  # as images.txt and recipes call it, such as MI355X

    @property
    def model(self) -> str | None:
        """For what is chosen by it; many sites call Slurm's type alike."""
        return self.name or self.kind


@dataclass(frozen=True, slots=True)
class Container:
    """What a server step runs in."""

    style: str
    image: str | None  # None: the one of images.txt for engine and platform
    squash_dir: Path | None  # where all nodes find imported images
    mounts: tuple[str, ...]
    devices: str  # when /dev/kfd and /dev/dri are mounted: auto, always, never
    flags: tuple[str, ...]
    environment: tuple[str, ...]  # names of further variables to pass on


@dataclass(frozen=True, slots=True)
class Site:
    """One cluster."""

    name: str
    partition: str | None
    account: str | None
    qos: str | None
    reservation: str | None
    exclusive: bool
    cpus_per_node: int | None
    gpus: Gpus
    container: Container
    modules: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    options: tuple[str, ...]  # further options of sbatch
    step_options: tuple[str, ...]  # and of each srun
    python: Path | None  # None: the harness's .venv
    domain: str  # what a node's name needs to be found by others
    kill_wait_s: int  # the cluster's KillWait: from TERM to KILL


def read_site(path: Path) -> Site:
    """Raises ConfigError."""
    fields = read_file(path)
    gpus = _gpus(fields.section("gpus"))
    site = Site(
        name=fields.text("name", path.stem, NAME),
        partition=fields.maybe("partition", WORD),
        account=fields.maybe("account", WORD),
        qos=fields.maybe("qos", WORD),
        reservation=fields.maybe("reservation", WORD),
        exclusive=fields.truth("exclusive", True),
        cpus_per_node=fields.number("cpus_per_node", 0, least=0) or None,
        gpus=gpus,
        container=_container(fields.section("container"), gpus.platform),
        modules=fields.words("modules"),
        environment=environment(fields),
        options=_options(fields, "sbatch_options"),
        step_options=_options(fields, "srun_options"),
        python=_as_named(fields, "python"),
        domain=fields.text("domain", "", r"(\.[A-Za-z0-9.-]+)?"),
        kill_wait_s=fields.number("kill_wait_s", 30),
    )
    fields.end()
    if not site.exclusive and site.container.style in ("docker", "podman"):
        raise ConfigError(
            f"{path}: container: style: {site.container.style} sees every GPU of a node, also those of "
            "other jobs: set exclusive: true, or use enroot or pyxis"
        )
    if not site.exclusive and site.cpus_per_node is None:
        raise ConfigError(
            f"{path}: a job that is not exclusive gets one core a node unless it asks: set "
            "cpus_per_node, or exclusive: true"
        )
    return site


def environment(fields: Fields) -> tuple[tuple[str, str], ...]:
    """Variables for everything that a job runs. Raises ConfigError, also for a secret."""
    found = fields.pairs("environment", VARIABLE)
    for name in found:
        if SECRET.search(name.upper()):
            raise ConfigError(
                f"{fields.where}: environment, {name}: a script that is kept with the results is no "
                "place for it: export it where you submit, Slurm passes it on"
            )
    return tuple(found.items())


def _gpus(fields: Fields) -> Gpus:
    platform = fields.choice("platform", PLATFORMS)
    found = Gpus(
        platform=platform,
        per_node=fields.number("per_node", 8, least=0),
        request=fields.choice("request", REQUESTS, "none" if platform == "cpu" else "gres"),
        kind=fields.maybe("type", NAME),
        name=fields.maybe("name", NAME),
    )
    fields.end()
    return found


def _container(fields: Fields, platform: str) -> Container:
    style = fields.choice("style", STYLES, "none")
    flags = _options(fields, "flags")
    found = Container(
        style=style,
        image=fields.maybe("image", WORD),
        squash_dir=fields.path("squash_dir"),
        mounts=fields.words("mounts"),
        devices=fields.choice("devices", ("auto", "always", "never"), "auto"),
        flags=flags or (PYXIS_FLAGS[platform] if style == "pyxis" else ()),
        environment=fields.words("environment"),
    )
    for mount in found.mounts:
        if not mount.startswith("/") or ":" not in mount or "," in mount:
            raise fields.error("mounts", mount, "be SOURCE:TARGET or SOURCE:TARGET:FLAGS")
    for name in found.environment:
        if not re.fullmatch(VARIABLE, name):
            raise fields.error("environment", name, "be the name alone of a variable")
    fields.end()
    return found


def _options(fields: Fields, name: str) -> tuple[str, ...]:
    """Words that stand on a command line or an #SBATCH line as they are."""
    words = fields.words(name)
    for word in words:
        if not word.startswith("-") or set(word) & set(" \t'\"\\"):
            raise fields.error(name, word, "be one option, such as --constraint=x, without quotes")
    return words


def _as_named(fields: Fields, name: str) -> Path | None:
    """An interpreter keeps the name it is called by: behind a resolved link lies another one."""
    value = fields.maybe(name)
    if value is not None and not value.startswith("/"):
        raise fields.error(name, value, "be an absolute path")
    return None if value is None else Path(value)
