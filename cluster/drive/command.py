"""`python -m cluster drive PLAN`: what a rendered script calls on the job's first node."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from cluster.drive.job import INTERRUPTED, Drive
from cluster.drive.stop import Stop, Stopped, say
from cluster.plan import Plan, read_plan
from cluster.records import lock_folder
from core.errors import ConfigError, HarnessError, RunError, SetupError

USAGE = "usage: python -m cluster drive PLAN   (rendered scripts call it, inside a job of Slurm)\n"
LOCK_S = 300.0  # after a requeue: until a file server forgets the lock of a node that was lost


def main(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """0 all have passed, 1 one has not, 2-4 as everywhere, 130 ended from outside."""
    if len(argv) != 1 or argv[0].startswith("-"):
        asked = list(argv) in (["-h"], ["--help"])
        (sys.stdout if asked else sys.stderr).write(USAGE)
        return 0 if asked else 2
    try:
        plan = read_plan(_text(argv[0]))
        with Stop(plan.kill_wait_s) as stop:
            drive = Drive(plan, environ, stop)
            with _alone(plan, stop, LOCK_S if drive.restarts else 0.0):
                return drive.run()
    except Stopped:
        return INTERRUPTED
    except HarnessError as error:
        say(f"error: {error}")
        return error.exit_code
    except OSError as error:  # a full disk, a lost file system
        say(f"error: {error}")
        return RunError.exit_code


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _alone(plan: Plan, stop: Stop, patience_s: float) -> IO[str]:
    """The folder, for this job alone. Raises SetupError, Stopped."""
    limit = time.monotonic() + patience_s
    while (lock := lock_folder(Path(plan.folder))) is None:
        if time.monotonic() > limit:
            raise SetupError(f"{plan.folder}: another job works there: wait for its end")
        stop.pause(1.0)
    return lock
