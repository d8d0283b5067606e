"""An engine's interpreter to run_server.sh: says what it has, then behaves as its model's name says.

It becomes `python -m engine clock`, so that what answers is real HTTP in the engine's dialect.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = {"vllm.entrypoints.openai.api_server": "vllm", "sglang.launch_server": "sglang"}


def main() -> None:
    if sys.argv[1] == "-c":  # the question for its engines
        found = {name: ["0.32.0", f"/nowhere/{name}/__init__.py"] for name in MODULES.values()}
        sys.stdout.write(json.dumps(found))
        return
    flags = dict(word.lstrip("-").split("=", 1) for word in sys.argv[3:] if "=" in word)
    dialect, port = MODULES[sys.argv[2]], flags["port"]
    name, mode = os.path.split(flags.get("model") or flags["model-path"])
    sys.stdout.write(f"told {json.dumps(sys.argv[1:])}\n")
    sys.stdout.write("".join(f"loading shard {n}\n" for n in range(30)))
    sys.stdout.flush()
    if mode.startswith("half-"):  # only replicas with odd ports
        mode = mode.removeprefix("half-") if int(port) % 2 else "ok"
    if mode == "dies":
        sys.exit(7)
    if mode == "slow":
        time.sleep(1.0)
    if mode == "foreign":
        dialect = "sglang" if dialect == "vllm" else "vllm"
    if mode in (
        "stubborn",
        "stuck",
    ):  # a worker that TERM does not end, named so that a test finds it
        deaf = f"import signal, time; signal.signal({int(signal.SIGTERM)}, signal.SIG_IGN)"
        subprocess.Popen([sys.executable, "-c", f"{deaf}; time.sleep(600)", name])
    if mode in ("silent", "stuck"):
        time.sleep(600)
    os.chdir(ROOT)
    clock = [sys.executable, "-m", "engine", "clock", "--dialect", dialect, "--port", port]
    os.execv(sys.executable, [*clock, "--served-name", name])


if __name__ == "__main__":
    main()
