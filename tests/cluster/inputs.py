"""Sites and jobs as a user writes them, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cluster.chain import Measurement
from cluster.job import read_job
from cluster.plan import Plan
from cluster.planning import make_plan
from cluster.site import read_site

SITE: dict[str, Any] = {"name": "s", "gpus": {"platform": "rocm"}}
JOB: dict[str, Any] = {
    "name": "j",
    "time": "01:00:00",
    "results": "results",
    "servers": {"engine": "emulator", "replicas_per_node": 2},
    "measure": [{"scenario": "offline"}],
}


def site_file(folder: Path, **changed: object) -> Path:
    return written(folder / "site.yaml", SITE | changed)


def job_file(folder: Path, servers: object = None, **changed: object) -> Path:
    """servers: changes of that section, or something in its place."""
    if servers is None or isinstance(servers, dict):
        servers = JOB["servers"] | (servers or {})
    return written(folder / "job.yaml", JOB | {"servers": servers} | changed)


def written(path: Path, content: dict[str, Any]) -> Path:
    """A field that is None is left out."""
    kept = {name: value for name, value in content.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False))
    return path


def measurement(name: str = "offline-performance", **changed: Any) -> Measurement:
    fields: dict[str, Any] = {
        "name": name,
        "words": ("run_mlperf.py", "--mode", "offline"),
        "again": (),
        "folder": "offline/performance",
        "summary": "summary.json",
        "needs": (),
    }
    return Measurement(**fields | changed)


def plan(folder: Path, site: object = None, servers: object = None, **changed: object) -> Plan:
    """Of a job that makes its whole chain; site: changes of the site's file."""
    assert site is None or isinstance(site, dict)
    job = read_job(job_file(folder, servers, **changed))
    return make_plan(read_site(site_file(folder, **(site or {}))), job, job.chain)
