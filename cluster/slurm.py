"""Slurm's own commands, as they are asked from outside a job."""

from __future__ import annotations

import subprocess

from core.errors import RunError, SetupError

LIMIT_S = 120
FORGOTTEN = "Invalid job id"  # of a job that has ended long ago


def call(
    words: list[str], text: str = "", limit_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """text: for its stdin; limit_s: LIMIT_S where it is not given.

    Raises SetupError where the command is missing, RunError where it hangs.
    """
    limit_s = LIMIT_S if limit_s is None else limit_s
    try:
        return subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except FileNotFoundError:
        raise SetupError(
            f"{words[0]}: is not on PATH: call this where Slurm's commands are"
        ) from None
    except subprocess.TimeoutExpired:
        raise RunError(f"{words[0]}: no answer within {limit_s} s: is slurmctld up?") from None


def queue(job_id: str, form: str, *options: str) -> str:
    """The job in squeue's words; empty where it knows it no longer. Raises SetupError, RunError."""
    done = call(["squeue", "--noheader", f"--jobs={job_id}", f"--format={form}", *options])
    if done.returncode != 0 and FORGOTTEN not in done.stderr:
        raise RunError(f"squeue: {done.stderr.strip()}")
    return done.stdout.strip()


def is_in_queue(job_id: str) -> bool:
    """Whether it waits or runs. Raises SetupError, RunError."""
    return bool(queue(job_id, "%T"))
