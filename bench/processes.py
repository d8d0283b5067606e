"""Looking at the harness and the emulator while they run: CPU time, memory, gauges."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from client.busy import cpu_s_of
from engine.emulator import page

POLL_S = 0.02


def process_tree(pid: int) -> Iterator[int]:
    """A process and its descendants; nothing once it has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            return
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return
    yield pid
    for child in children:
        yield from process_tree(child)


def pss_bytes(pid: int) -> int:
    """Proportional set size; 0 for a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line[:4] == "Pss:")


def gauge(url: str, name: str) -> int:
    """One of the emulator's metrics."""
    found = re.search(
        rb"^vllm:%b\{.*\} ([\d.]+)$" % name.encode(), page("GET", f"{url}/metrics"), re.M
    )
    return int(float(found[1])) if found else 0


def cpu_at_first_request(pid: int, url: str, prompt_tokens: int) -> float:
    """CPU seconds that the tree has used when the emulator gets more than those prompt tokens."""
    while tree := list(process_tree(pid)):
        if gauge(url, "prompt_tokens_total") > prompt_tokens:
            return sum(map(cpu_s_of, tree))
        time.sleep(POLL_S)
    return 0.0
