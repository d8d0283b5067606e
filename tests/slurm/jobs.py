"""Jobs of `python -m cluster` on the real Slurm: written, submitted, waited for, looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.harness import ROOT
from tests.slurm.mini import MiniSlurm, until

SITE: dict[str, Any] = {
    "name": "mini",
    "cpus_per_node": 8,
    "gpus": {"platform": "rocm", "per_node": 8, "type": "mi355x"},
    "kill_wait_s": 5,
}
JOB: dict[str, Any] = {
    "name": "job",
    "time": "00:05:00",
    "results": "results",
    "check_nodes": "false",
    "servers": {"engine": "emulator", "replicas_per_node": 2, "ready_timeout_s": 60},
}


@dataclass(frozen=True)
class Jobs:
    """A folder with a site and jobs, as a user has on a login node."""

    slurm: MiniSlurm
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)  # where it is submitted

    def cluster(self, *words: str, code: int = 0) -> str:
        """python -m cluster; what it says on both streams."""
        done = subprocess.run(
            [sys.executable, "-m", "cluster", *words],
            cwd=ROOT,
            env=self.slurm.environment | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def submit(self, *flags: str, site: dict[str, Any] | None = None, **job: Any) -> str:
        """The id of the (last) job that is made."""
        return self.submit_all(*flags, site=site, **job)[-1]

    def submit_all(self, *flags: str, site: dict[str, Any] | None = None, **job: Any) -> list[str]:
        servers = JOB["servers"] | job.pop("servers", {})
        site_file, job_file = self.folder / "site.yaml", self.folder / "job.yaml"
        site_file.write_text(yaml.safe_dump(SITE | (site or {})))
        job_file.write_text(yaml.safe_dump({**JOB, **job, "servers": servers}))
        told = self.cluster("submit", "--site", str(site_file), str(job_file), *flags)
        return [line.split()[-1] for line in told.splitlines() if ": job " in line]

    @property
    def results(self) -> Path:
        return self.folder / "results" / "job"

    def log(self, job_id: str) -> str:
        path = self.results / f"slurm-{job_id}.log"
        return path.read_text() if path.exists() else ""

    def until_answers(self, folder: str, limit_s: float = 60) -> None:
        """Until queries of that run have been answered."""
        file = self.results / folder / "queries.bin"
        until(lambda: file.exists() and file.stat().st_size > 0, limit_s, f"answers in {file}")

    def end(self, job_id: str, *states: str, limit_s: float = 180) -> dict[str, str]:
        """The job at its end, which has left no process on any node of its own."""
        job = self.slurm.wait(job_id, *states, limit_s=limit_s)
        until(lambda: not self.left(), 15, "no process left on the nodes")
        return job

    def left(self) -> list[str]:
        """Servers, clients and orchestrators of this folder's jobs that still run somewhere."""
        lines = [line for node in self.slurm.nodes for line in self.slurm.processes(node)]
        return [line for line in lines if str(self.folder) in line]

    def measured(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.results / "measured" / f"{name}.json").read_text())
        return found

    def summary(self, folder: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.results / folder / "summary.json").read_text())
        return found

    def engine_pids(self, node: str, port: int) -> list[int]:
        """Of the emulator that listens there."""
        pids = self.slurm.call("ip", "netns", "pids", f"ms{self.slurm.instance}-{node}").split()
        found = []
        for pid in pids:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"--port={port}".encode() in words:
                found.append(int(pid))
        return found
