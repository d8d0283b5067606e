"""`python -m bench.gpu`: the harness at full size, beside the engine's own tools.

Every step leaves STEP.json in the output folder, at once; tables.md, measurements.json and the plots
come from these alone: `python -m bench.gpu.report FOLDER` makes them again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from bench.gpu import flow
from bench.gpu.options import Options, parse_options
from bench.gpu.ours import ROOT, Found
from bench.gpu.report import draw_plots, write_report
from bench.gpu.shape import write_shape
from bench.gpu.steps import Bench
from bench.gpu.together import deferred
from client.signals import FOR_MAIN, interrupt_once
from core.errors import HarnessError, SetupError

INTERRUPTED, FAILED = 130, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, show the tables, return the exit code."""
    options = parse_options(sys.argv[1:] if argv is None else argv)
    interrupt_once(*FOR_MAIN)
    try:
        return run(options)
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        kept = options.output
        sys.stderr.write(f"interrupted; to see what was measured: -m bench.gpu.report {kept}\n")
        return INTERRUPTED


def run(options: Options) -> int:
    """Raises HarnessError."""
    keep = _keeper(options)
    keep({"step": "machine", **_machine(options)})
    bench = Bench(options, options.model or write_shape(options.output / "model"), _say())
    failed = [found["step"] for found in flow.run(bench, keep) if "error" in found]
    sys.stdout.write(write_report(options.output))
    sys.stdout.flush()
    draw_plots(options.output)
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}; see {options.output}\n")
    return FAILED if failed else 0


def _keeper(options: Options) -> Callable[[Found], None]:
    """Stores what a step found; an earlier folder is moved aside. Raises SetupError now rather than
    after an hour."""
    try:
        if (options.output / "machine.json").exists():  # or old steps would be in the new report
            stamp = time.strftime("%Y%m%d-%H%M%S")
            options.output.rename(options.output.with_name(f"{options.output.name}-until-{stamp}"))
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"--output {options.output}: {error.strerror}: choose another") from None

    def keep(found: Found) -> None:
        path = options.output / f"{found['step']}.json"
        with deferred():
            path.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")

    return keep


def _machine(options: Options) -> Found:
    """What the doctor says of it."""
    command = [sys.executable, "-m", "cluster", "doctor", "--json", "--python", options.python]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    findings = json.loads(done.stdout)["findings"] if done.stdout else []
    kept = [{key: found[key] for key in ("group", "what", "value")} for found in findings]
    return {"command": sys.argv, "findings": kept} | ({} if kept else {"error": done.stderr})


def _say() -> Callable[[str], None]:
    """Lines from several threads, with the seconds since the start."""
    began, lock = time.monotonic(), threading.Lock()

    def say(text: str) -> None:
        with lock:
            sys.stderr.write(f"{time.monotonic() - began:6.0f} s  {text}\n")
            sys.stderr.flush()

    return say


if __name__ == "__main__":
    sys.exit(main())
