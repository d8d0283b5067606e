"""From what was found and exported to the one server that is started, and how that is shown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from competition.launch import command, recipes
from competition.launch.settings import Settings
from core.errors import ConfigError
from server import devices
from server.installed import Engine
from server.machine import Machine
from server.plan import Plan, Replica
from server.recipes import Recipe

UNBUFFERED = ("PYTHONUNBUFFERED", "1")  # its output goes to a file, and should be seen at once
LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # to ask a server that listens on all addresses


def make(
    settings: Settings,
    machine: Machine,
    engine: Engine,
    environ: Mapping[str, str],
    extra: Sequence[str],
    config: Path,
) -> tuple[Plan, str]:
    """The plan, and the text of vLLM's `config`, "" where there is none. Raises ConfigError,
    SetupError."""
    command.check(extra)
    recipe = recipes.choose(engine, machine.platform)
    _check_gpus(settings, machine, environ)
    text = ""
    if engine.name == "sglang":
        arguments = command.sglang(settings, recipe, extra)
    else:
        if machine.platform != "cpu":
            text = command.vllm_config(settings, recipe, extra)
        arguments = command.vllm(settings, recipe, extra, config if text else None)
    replica = _replica(settings, recipe, (engine.python, *arguments), environ)
    notes = _notes(recipe, environ, command.replaced(extra) if text else "")
    return Plan(engine, machine, recipe, (replica,), tuple(notes)), text


def _replica(
    settings: Settings, recipe: Recipe, words: Sequence[str], environ: Mapping[str, str]
) -> Replica:
    host = LOCAL.get(settings.host, settings.host)
    return Replica(
        index=0,
        host=host,
        port=settings.port,
        url=f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}",
        device=f"TP={settings.tp}",
        command=tuple(words),
        environment=tuple(pair for pair in (*recipe.env, UNBUFFERED) if pair[0] not in environ),
        removed=(),
        log=settings.log,
    )


def _check_gpus(settings: Settings, machine: Machine, environ: Mapping[str, str]) -> None:
    """Raises ConfigError. None to be seen says nothing: this may be another machine."""
    pool = devices.pool(machine.platform, environ, machine.count)
    if pool.tokens and settings.tp > len(pool.tokens):
        raise ConfigError(
            f"TP={settings.tp}: {pool.origin} gives {len(pool.tokens)} GPUs; export a smaller TP"
        )


def _notes(recipe: Recipe, environ: Mapping[str, str], replaced: str) -> list[str]:
    notes = [
        f"{name}={environ[name]} of your environment is kept (recipe: {value})"
        for name, value in recipe.env
        if environ.get(name, value) != value
    ]
    if replaced:
        notes.append(f"{replaced} replaces all compilation settings of ours, the sizes as well")
    return [*notes, *filter(None, [recipe.warning])]


def render(plan: Plan, config: Path, text: str) -> str:
    """A script that does the same, to be read, copied and pasted."""
    engine, recipe, (replica,) = plan.engine, plan.recipe, plan.replicas
    gpu = f" ({plan.machine.gpu})" if plan.machine.gpu else ""
    lines = [
        f"# {engine.name} {engine.version or '(version unknown)'} on {plan.machine.platform}{gpu}",
        f"# recipe {recipe.name}: {recipe.source}, {recipe.date}",
        *(f"# note: {note}" for note in plan.notes),
    ]
    if text:
        lines += [f"cat >{shlex.quote(str(config))} <<'END'", f"{text}END"]
    words = [f"{name}={shlex.quote(value)}" for name, value in replica.environment]
    words += [shlex.join(replica.command[:3]), *map(shlex.quote, replica.command[3:])]
    lines.append(" \\\n    ".join(["env", *words]))
    return "\n".join(lines) + f" 2>&1 | tee {shlex.quote(str(replica.log))}\n"
