"""A plan as a shell script: what --dry-run prints, to be read, copied and pasted."""

from __future__ import annotations

import shlex

from server.plan import Plan, Replica


def render(plan: Plan) -> str:
    engine, recipe = plan.engine, plan.recipe
    gpu = f" ({plan.machine.gpu})" if plan.machine.gpu else ""
    lines = [
        f"# {engine.name} {engine.version or '(version unknown)'} on {plan.machine.platform}{gpu}: "
        f"{len(plan.replicas)} server{'s' * (len(plan.replicas) > 1)}",
        f"# recipe {recipe.name}: {recipe.source}, {recipe.date}",
        *(f"# note: {note}" for note in plan.notes),
        "",
        f"mkdir -p {shlex.quote(str(plan.replicas[0].log.parent))}",
    ]
    for replica in plan.replicas:
        lines += ["", f"# replica {replica.index}: {replica.device}, {replica.url}"]
        lines.append(
            " \\\n".join(_words(replica)) + f" \\\n    >{shlex.quote(str(replica.log))} 2>&1 &"
        )
    return "\n".join(lines) + "\n"


def _words(replica: Replica) -> list[str]:
    removed = "".join(f" -u {name}" for name in replica.removed)
    python, *arguments = replica.command
    return [
        f"env{removed}",
        *(f"    {name}={shlex.quote(value)}" for name, value in replica.environment),
        "    " + shlex.join([python, *arguments[:2]]),
        *(f"    {shlex.quote(word)}" for word in arguments[2:]),  # after -m MODULE
    ]
