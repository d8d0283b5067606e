"""All checks, in the screen's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.doctor import check_env, check_gpus, check_machine, check_stack, known_bad
from cluster.doctor.facts import Facts
from cluster.doctor.finding import Finding

Check = Callable[[Facts], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    checks: tuple[tuple[Check, str], ...]  # with the sections of Facts that each looks at


GROUPS = (
    Group(
        "machine",
        (
            (check_machine.cpu, "machine gpus"),
            (check_machine.memory, "machine allowances"),
            (check_machine.clock, "machine"),
            (check_machine.governor, "machine"),
            (check_machine.numa_balancing, "machine gpus"),
        ),
    ),
    Group(
        "GPUs",
        (
            (check_gpus.present, "gpus"),
            (check_gpus.driver, "gpus"),
            (check_gpus.access, "gpus"),
            (check_gpus.memory, "gpus"),
            (check_gpus.processes, "gpus"),
            (check_gpus.partition, "gpus"),
            (check_gpus.firmware, "gpus"),
            (check_env.visible_gpus, "gpus"),
        ),
    ),
    Group(
        "engine",
        (
            (check_stack.python, "stack"),
            (check_stack.engines, "stack gpus"),
            (check_gpus.aiter, "stack gpus"),
            (check_gpus.torch_build, "stack gpus"),
            (check_stack.torch_wanted, "stack"),
            (check_stack.numpy, "stack"),
            (known_bad.known_bad, "stack gpus"),
        ),
    ),
    Group("environment", ((check_env.variables, ""), (check_env.token, ""))),
    Group(
        "limits",
        (
            (check_machine.files, "allowances"),
            (check_machine.processes, "allowances"),
            (check_machine.locked_memory, "allowances gpus"),
            (check_machine.connections, "allowances"),
            (check_machine.asked_ports, "allowances"),
            (check_machine.output, "disks"),
            (check_machine.caches, "disks gpus"),
            (check_machine.shared_memory, "disks"),
        ),
    ),
    Group(
        "tools",
        (
            (check_stack.containers, "tools machine"),
            (check_stack.slurm, "tools"),
            (check_stack.loadgen, "harness"),
        ),
    ),
)


def examine(facts: Facts) -> dict[str, tuple[Finding, ...]]:
    """Findings of each group. What looks at a section that could not be read is not concluded."""
    return {group.name: tuple(_findings(group, facts)) for group in GROUPS}


def _findings(group: Group, facts: Facts) -> Iterator[Finding]:
    skipped: dict[str, list[str]] = {}
    for check, sections in group.checks:
        missing = next((name for name in sections.split() if name in facts.problems), None)
        if missing is None:
            yield from check(facts)
        else:
            skipped.setdefault(missing, []).append(check.__name__.replace("_", " "))
    for section, checks in skipped.items():
        value = f"{facts.problems[section]}; not checked: {', '.join(checks)}"
        yield Finding("UNKNOWN", section, value)
