"""From what was asked and what was found to what is started: commands, variables, ports, logs."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigError
from server import devices, engines, own, recipes, share
from server.installed import Engine
from server.machine import Machine
from server.options import OWN, Options
from server.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Replica:
    """One server to start."""

    index: int
    host: str  # to ask it from here
    port: int
    url: str  # to ask it from anywhere
    device: str  # "GPU 3", for people
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]  # to set
    removed: tuple[str, ...]  # variables to remove
    log: Path


@dataclass(frozen=True, slots=True)
class Plan:
    engine: Engine
    machine: Machine
    recipe: Recipe
    replicas: tuple[Replica, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Maker:
    """What all replicas share."""

    options: Options
    machine: Machine
    engine: Engine
    recipe: Recipe
    environ: Mapping[str, str]

    def replica(self, index: int, tokens: tuple[str, ...], of: int) -> Replica:
        options, engine = self.options, self.engine
        shown, removed = devices.variables(self.machine.platform, tokens)
        internal = options.dp_mode == "internal"
        dp = (options.dp or max(1, len(tokens))) if internal else 1
        port = options.port + index
        arguments = engines.command(engine.name, engine.version, options, self.recipe, port, dp)
        return Replica(
            index,
            {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.host, options.host),
            port,
            url(options.host, port),
            f"GPU {','.join(tokens)}" if tokens else "CPU",
            (engine.python, *arguments),
            tuple((shown | self._own(index, of) | self._recommended()).items()),
            (*removed, *_clashing(self.environ)),
            options.log_dir / f"replica-{index}.log",
        )

    def _own(self, index: int, of: int) -> dict[str, str]:
        """What this replica alone gets, and what the harness's own engines need."""
        if self.engine.name in OWN:
            return own.environment(self.environ)
        if self.machine.platform == "cpu":
            return share.cores(self.engine.name, index, of, self.environ)
        return share.caches(self.engine.name, index, self.options.cache_dir, self.environ)

    def _recommended(self) -> dict[str, str]:
        """The recipe's variables that the user has not set."""
        return {name: value for name, value in self.recipe.env if name not in self.environ}

    def kept(self) -> list[str]:
        """A note for each variable that the user set otherwise."""
        return [
            f"{name}={self.environ[name]} of your environment is kept (recipe: {value})"
            for name, value in self.recipe.env
            if self.environ.get(name, value) != value
        ]


def make(options: Options, machine: Machine, engine: Engine, environ: Mapping[str, str]) -> Plan:
    """Raises ConfigError, SetupError."""
    engines.check(engine.name, options)
    recipe = _recipe(engine, machine)
    groups, notes = _groups(options, machine, environ)
    if machine.platform != "cpu" and not recipe.gpus:
        gpu = machine.gpu or "the GPU's name is unknown"
        notes.append(f"{gpu}: no recipe of its own for this engine, taken: {recipe.name}")
    if recipe.warning:
        notes.append(recipe.warning)
    maker = _Maker(options, machine, engine, recipe, environ)
    notes += maker.kept()
    notes += [f"{name} is removed: replicas cannot share it" for name in _clashing(environ)]
    if (options.min_replicas or 0) > len(groups):
        raise ConfigError(
            f"--min-replicas {options.min_replicas}: {len(groups)} are to be started: lower it, or "
            "raise --dp"
        )
    replicas = [maker.replica(index, group, len(groups)) for index, group in enumerate(groups)]
    return Plan(engine, machine, recipe, tuple(replicas), tuple(notes))


def _recipe(engine: Engine, machine: Machine) -> Recipe:
    """Raises SetupError."""
    if engine.name in OWN:
        return own.recipe(engine.name)
    return recipes.choose(engine.name, engine.version, machine.platform, machine.gpu)


def _groups(
    options: Options, machine: Machine, environ: Mapping[str, str]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """The device tokens of each server; notes."""
    internal = options.dp_mode == "internal"
    if machine.platform == "cpu":
        if options.gpus or options.excluded:
            raise ConfigError("--gpus and --exclude-gpus: the platform is cpu")
        return [()] * (1 if internal else options.dp or 1), []
    pool, notes = devices.pool(machine.platform, environ, machine.count), []
    if options.dry_run and not pool.tokens and pool.origin == "the machine":
        named = [int(name) for name in (options.gpus or ()) if name.isdigit()]
        count = max([8, options.dp or 0, *(n + 1 for n in named)])
        pool = devices.pool(machine.platform, {}, count)
        notes.append(f"no GPU here: planned for a machine with {count}")
    tokens = devices.choose(pool, options.dp, options.gpus, options.excluded)
    return [tokens] if internal else [(token,) for token in tokens], notes


def _clashing(environ: Mapping[str, str]) -> list[str]:
    """What one replica may have and two may not."""
    return [name for name in ("VLLM_PORT",) if name in environ]


def url(host: str, port: int) -> str:
    """An address that also works from elsewhere where all addresses are listened to."""
    if host in ("0.0.0.0", "::"):
        host = _own_name()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _own_name() -> str:
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:  # nobody else could use it, either
        return "127.0.0.1"
    return name


def check_ports(
    replicas: Sequence[Replica], host: str, least: int | None = None
) -> tuple[list[Replica], list[str]]:
    """The replicas whose ports are free; where another process listens at the others'. Raises
    ConfigError where fewer than `least` (None: all) are free."""
    free, taken = [], []
    for replica in replicas:
        if reason := _why_taken(host, replica.port):
            taken.append(f"port {replica.port} of {host} for replica {replica.index}: {reason}")
        else:
            free.append(replica)
    if len(free) < (len(replicas) if least is None else least):
        raise ConfigError(f"{'; '.join(taken)}; choose others with --port")
    return free, taken


def _why_taken(host: str, port: int) -> str:
    """Nothing for a free one."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""
