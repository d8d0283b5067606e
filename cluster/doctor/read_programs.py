"""What other programs say: the engine's Python, container tools, Slurm, the harness's .venv."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from cluster.doctor.facts import Harness, Package, Requirement, Stack, Tools
from cluster.doctor.tell import folders, read, tell, tell_all

ROOT = Path(__file__).resolve().parent.parent.parent
PROBE = Path(__file__).with_name("probe.py")
SLURM_CONFS = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf")
LOADGEN = """
import json, sys
from importlib.metadata import version
import mlperf_loadgen
print(json.dumps([sys.version.split()[0], version("mlcommons-loadgen")]))
"""


def read_stack(python: str) -> Stack:
    """Raises OSError with the reason if that interpreter does not answer."""
    told = tell([python, str(PROBE)])
    if told.problem:
        raise OSError(told.problem)
    return parse_stack(told.text)


def parse_stack(text: str) -> Stack:
    found = json.loads(text)
    wants = found["requirements"]
    return Stack(
        python=found["python"],
        version=found["version"],
        packages=tuple(Package(**one) for one in found["packages"]),
        torch_hip=found["torch"].get("hip", ""),
        torch_cuda=found["torch"].get("cuda", ""),
        requirements=None if wants is None else tuple(Requirement(**one) for one in wants),
    )


def read_tools(env: Mapping[str, str]) -> Tools:
    commands = {
        name: [name, flag]
        for name, flag in (("docker", "--version"), ("podman", "--version"), ("enroot", "version"))
        if shutil.which(name)
    }
    confs = [env["SLURM_CONF"]] if env.get("SLURM_CONF") else SLURM_CONFS
    conf = next((Path(name) for name in confs if Path(name).is_file()), None)
    slurm = shutil.which("sinfo") is not None
    if slurm:
        commands["version"] = ["sinfo", "--version"]
    if slurm and conf:  # without one, clients look for a controller by DNS
        commands["nodes"] = ["sinfo", "-h", "-o", "%P %a %D %G"]
    told = tell_all(commands)
    nodes = told.get("nodes")
    return Tools(
        containers={
            name: told[name].text.strip() or told[name].problem
            for name in ("docker", "podman", "enroot")
            if name in told
        },
        slurm=told["version"].text.strip().removeprefix("slurm ") if slurm else "",
        job=env.get("SLURM_JOB_ID", ""),
        partitions=tuple(nodes.text.splitlines()) if nodes else (),
        controller=nodes.problem if nodes else "there is no slurm.conf here",
        pyxis=_pyxis(conf) if conf else None,
    )


def _pyxis(slurm_conf: Path) -> bool | None:
    """Whether Slurm's list of plug-ins names it. None: a list that we may not read."""
    plugins = [slurm_conf.with_name("plugstack.conf")]
    for line in read(slurm_conf).splitlines():
        name, _, value = line.partition("=")
        if name.strip().lower() == "plugstackconfig":
            plugins = [Path(value.split("#")[0].strip())]
    plugins += folders(plugins[0].with_name("plugstack.conf.d"))
    texts = [read(path) for path in plugins if path.is_file()]
    lines = [line for text in texts for line in text.splitlines() if not line.startswith("#")]
    if any("pyxis" in line for line in lines):
        return True
    return None if texts and not any(texts) else False


def read_harness(root: Path = ROOT) -> Harness:
    """Imports LoadGen, in its own process."""
    python = root / ".venv/bin/python"
    if not python.exists():
        return Harness()
    told = tell([str(python), "-c", LOADGEN])
    if told.problem:
        return Harness(str(python), problem=told.problem)
    version, loadgen = json.loads(told.text)
    return Harness(version, loadgen)
