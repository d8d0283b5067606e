"""All readers at once, each in a thread that nobody waits for: a dead network disk or a hanging
driver costs its own section of the facts, not the doctor."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.doctor.facts import Facts
from cluster.doctor.read_disks import read_disks
from cluster.doctor.read_env import read_env
from cluster.doctor.read_gpus import read_gpus
from cluster.doctor.read_machine import read_allowances, read_machine
from cluster.doctor.read_programs import read_harness, read_stack, read_tools

LIMIT_S = 4.0  # more than a program gets, so that its silence is told as such

Readers = Mapping[str, Callable[[], object]]


def gather(python: str, ports: Sequence[int], output: Path) -> Facts:
    """This machine's facts, in less than LIMIT_S."""
    environ = dict(os.environ)
    readers: Readers = {
        "machine": read_machine,
        "allowances": lambda: read_allowances(ports),
        "disks": lambda: read_disks(output, environ),
        "gpus": read_gpus,
        "stack": lambda: read_stack(python),
        "tools": lambda: read_tools(environ),
        "harness": read_harness,
    }
    sections, problems = read_sections(readers, LIMIT_S)
    return Facts(env=read_env(environ), problems=problems, **sections)


def read_sections(readers: Readers, limit_s: float) -> tuple[dict[str, Any], dict[str, str]]:
    """What each reader gave in time, and why the others did not."""
    sections: dict[str, Any] = {}
    problems: dict[str, str] = {}

    def run(name: str) -> None:
        try:
            sections[name] = readers[name]()
        except Exception as error:  # noqa: BLE001 - whatever it is, this section is not known
            problems[name] = str(error) or type(error).__name__

    threads = {name: threading.Thread(target=run, args=[name], daemon=True) for name in readers}
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + limit_s
    for thread in threads.values():
        thread.join(max(0.0, end - time.monotonic()))
    found = dict(sections)  # a late one must not come in behind our back
    late = {name: f"not read within {limit_s:g} s" for name in readers if name not in found}
    return found, late | problems
