"""`python -m cluster render` and `submit`: a job's scripts, shown or given to Slurm."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from cluster.chain import Measurement
from cluster.job import Job, read_job
from cluster.records import JOBS, MEASURED, PLAN, is_done, now, read_json, submitted, write_json
from cluster.script import Script, render
from cluster.site import read_site
from cluster.slurm import call, is_in_queue
from core.errors import ConfigError, HarnessError, RunError, SetupError

LOOK_S, SILENCE_S = 5.0, 600.0
EPILOG = """A job's file says what to measure, a site's file what its cluster is like: docs/cluster.md.
Exit codes: 0 done, 2 a setting cannot be used, 3 something is missing, 4 Slurm refuses; with --wait 1
where something has not passed."""


def main_render(argv: Sequence[str]) -> int:
    """Print the scripts; nothing is written."""
    parser = _parser("render", "Print the batch script of a job, to be read. Nothing is submitted.")
    args = parser.parse_args(argv)
    try:
        _, scripts = _read(args)
    except HarnessError as error:
        return _tell(error)
    sys.stdout.write("\n".join(script.text for script in scripts))
    return 0


def main_submit(argv: Sequence[str]) -> int:
    parser = _parser("submit", "Write a job's batch script into its results folder and submit it.")
    add = parser.add_argument
    add("--test-only", action="store_true", help="let sbatch check the script, submit nothing")
    what = "go on in the folder of an earlier job: what has passed is not measured again"
    add("--resume", action="store_true", help=what)
    add(
        "--wait", action="store_true", help="return when the last job has ended, with its exit code"
    )
    args = parser.parse_args(argv)
    try:
        job, scripts = _read(args)
        _check_files(job)
        if args.test_only:
            return _test(scripts)
        return _submit(job, scripts, args.resume, args.wait, (args.site, args.job))
    except HarnessError as error:
        return _tell(error)
    except OSError as error:  # a full disk, a folder of somebody else's
        return _tell(SetupError(f"cannot be written: {error}"))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was submitted goes on: squeue shows it\n")
        return 130


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m cluster {name}", description=description, epilog=EPILOG, allow_abbrev=False
    )
    parser.add_argument("job", type=Path, metavar="JOB.yaml", help="what to measure")
    what = "what the cluster is like"
    parser.add_argument("--site", type=Path, required=True, metavar="SITE.yaml", help=what)
    return parser


def _read(args: argparse.Namespace) -> tuple[Job, tuple[Script, ...]]:
    site, job = read_site(args.site), read_job(args.job)
    if job.gpus_per_node > site.gpus.per_node:
        raise ConfigError(
            f"{args.job}: replicas_per_node or gpus_per_node: {job.gpus_per_node}, but a node of "
            f"{site.name} has {site.gpus.per_node} GPUs"
        )
    for node, gpus in job.servers.excluded:
        if beyond := [gpu for gpu in gpus.split(",") if int(gpu) >= site.gpus.per_node]:
            raise ConfigError(
                f"{args.job}: exclude_gpus: {node}: {beyond[0]}: a node of {site.name} has GPUs 0 to "
                f"{site.gpus.per_node - 1}"
            )
    return job, render(site, job)


def _check_files(job: Job) -> None:
    """Raises ConfigError for what will be missed in the job, hours from now."""
    for file in job.files:
        if not file.exists():
            raise ConfigError(f"{file}: is not there; the nodes need it at the same place")


def _tell(error: HarnessError) -> int:
    sys.stderr.write(f"error: {error}\n")
    return error.exit_code


def _test(scripts: Sequence[Script]) -> int:
    """Slurm's own dry run. Raises HarnessError."""
    for script in scripts:
        done = _sbatch(["--test-only"], script.text)
        sys.stdout.write(f"{script.name}: {done.stderr.strip() or done.stdout.strip()}\n")
    return 0


def _submit(
    job: Job, scripts: Sequence[Script], resume: bool, wait: bool, asked: tuple[Path, Path]
) -> int:
    """Raises HarnessError."""
    _open_folder(job.folder, resume)
    for file, name in zip(asked, ("site.yaml", "job.yaml"), strict=True):
        with contextlib.suppress(shutil.SameFileError):  # they are the folder's own
            shutil.copyfile(file, job.folder / name)
    write_json(job.folder / PLAN, asdict(scripts[0].plan))
    todo = [script for script in scripts if _left(job, script)]
    for script in scripts:
        if script not in todo:
            sys.stdout.write(f"{script.name}: is done, skipped\n")
    ids = dict[str, str]()  # measurement -> the job that makes it
    for script in todo:
        path = job.folder / f"{script.name}.sbatch"
        path.write_text(script.text, encoding="utf-8")
        done = _sbatch(["--parsable", *_dependency(script, ids), str(path)])
        job_id = done.stdout.strip().partition(";")[0]
        ids |= {one.name: job_id for one in _left(job, script)}
        _note(job.folder, job_id, path.name)
        sys.stdout.write(f"{script.name}: job {job_id}\n")
    sys.stdout.write(f"python -m cluster status {job.folder}\n")
    sys.stdout.flush()
    if not wait:
        return 0
    for job_id in dict.fromkeys(ids.values()):
        _wait(job_id)
    return 1 if any(_left(job, script) for script in scripts) else 0


def _wait(job_id: str) -> None:
    """Until it has ended. Raises RunError where Slurm has not answered for some minutes."""
    silent_since = None
    while True:
        try:
            if not is_in_queue(job_id):
                return
            silent_since = None
        except RunError:
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > SILENCE_S:
                raise
        time.sleep(LOOK_S)


def _left(job: Job, script: Script) -> list[Measurement]:
    return [one for one in script.plan.todo if not is_done(job.folder, script.plan, one)]


def _note(folder: Path, job_id: str, script: str) -> None:
    """For `status`."""
    earlier = read_json(folder / JOBS)
    new = {"id": job_id, "script": script, "submitted": now()}
    write_json(folder / JOBS, [*(earlier if isinstance(earlier, list) else []), new])


def _dependency(script: Script, ids: Mapping[str, str]) -> list[str]:
    """After the job before it, because they share a folder; after what it needs has passed."""
    needed = {ids[name] for one in script.plan.todo for name in one.needs if name in ids}
    after = [f"afterok:{job}" for job in sorted(needed)]
    after += [f"afterany:{job}" for job in list(ids.values())[-1:] if job not in needed]
    return [f"--dependency={','.join(after)}", "--kill-on-invalid-dep=yes"] if after else []


def _open_folder(folder: Path, resume: bool) -> None:
    """Raises ConfigError where something was measured there already, SetupError."""
    for job_id in submitted(folder):
        if is_in_queue(job_id):
            raise ConfigError(
                f"{folder}: job {job_id} still uses it: wait for its end, or scancel {job_id}"
            )
    if (folder / MEASURED).exists() and not resume:
        raise ConfigError(
            f"{folder}: holds results of an earlier job: go on with it (--resume), or give this job "
            "another name"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"{folder}: cannot be made: {error}: set results in the job's file"
        ) from None


def _sbatch(options: list[str], script: str = "") -> subprocess.CompletedProcess[str]:
    """script: one that lies nowhere yet. Raises SetupError, RunError."""
    done = call(["sbatch", *options], script)
    if done.returncode != 0:
        raise RunError(f"Slurm refuses: {done.stderr.strip() or done.stdout.strip()}")
    return done
