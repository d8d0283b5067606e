"""Jobs on bad days: whatever happens, the number does not look good, what was measured is kept, and
nothing is left running."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.harness import OFFLINE_CONF, server_conf, unmarked, write_conf, write_dataset
from tests.slurm.jobs import Jobs
from tests.slurm.mini import MiniSlurm, until

SLOW = {"engine_flags": ["--osl", "40", "--ttft-ms", "20", "--itl-ms", "20"]}
pytestmark = pytest.mark.timeout(300)
LONG_S = 40.0  # of a run that is to be ended


@pytest.fixture
def jobs(slurm: MiniSlurm, tmp_path: Path) -> Jobs:
    return Jobs(slurm, tmp_path)


def runs(folder: Path, seconds: float = LONG_S) -> dict[str, Any]:
    """A dataset and targets for a Server run of that length."""
    conf = write_conf(folder / "user.conf", *OFFLINE_CONF, *server_conf(100, seconds))
    dataset = write_dataset(folder / "data.parquet", n=64)
    return {"user_conf": str(conf), "datasets": {"performance": str(dataset)}}


def sick(folder: Path, *cases: str) -> dict[str, str]:
    """An interpreter that does something else in these cases of NODE and its arguments."""
    path = folder / "sick-python"
    asked = "*' -c '*) true"  # for its libraries
    lines = "\n".join(f"    {case} ;;" for case in (asked, *cases))
    path.write_text(
        f'#!/bin/bash\ncase "$(hostname) $*" in\n{lines}\nesac\nexec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return {"python": str(path)}


@pytest.fixture(scope="module")
def limited(
    slurm: MiniSlurm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Jobs, str]]:
    """A job that runs into its time limit while the other tests go on.

    Slurm looks every 30 s and warns up to 30 s early: here between 60 and 90 s after the start.
    """
    jobs = Jobs(slurm, tmp_path_factory.mktemp("limited"))
    job_id = jobs.submit(
        time="00:02:00",
        warn_s=30,
        servers=SLOW,
        measure=[{"scenario": "offline"}, {"scenario": "server"}],
        **runs(jobs.folder, 300),
    )
    jobs.until_answers("server/performance")
    yield jobs, job_id
    slurm.call("scancel", job_id, check=False)


def test_servers_that_never_get_ready(jobs: Jobs, limited: object) -> None:
    job_id = jobs.submit(
        servers={"ready_timeout_s": 3} | sick(jobs.folder, "*' -m engine '*) exec sleep 600"),
        measure=[{"scenario": "offline"}],
    )
    job = jobs.end(job_id, "FAILED")
    assert job["ExitCode"] == "4:0"
    assert "not ready within --timeout 3 s" in jobs.log(job_id)
    assert not (jobs.results / "offline").exists()


def test_a_sick_gpu_and_a_sick_node_are_left_out(jobs: Jobs) -> None:
    """On n2 one replica dies, on the third node none gets ready."""
    dies = "n2*' -m engine '*--port=30001*) exit 7"
    hangs = "n3*' -m engine '*) exec sleep 600"
    job_id = jobs.submit(
        nodes=3,
        nodelist="n[2-4]",
        servers={"min_replicas": 3, "patience_s": 2} | sick(jobs.folder, dies, hangs),
        measure=[{"scenario": "offline"}],
        **runs(jobs.folder),
    )
    jobs.end(job_id, "COMPLETED")
    urls = ["http://n2:30000", "http://n4:30000", "http://n4:30001"]
    assert jobs.measured("offline-performance")["replicas"] == urls
    log = jobs.log(job_id)
    assert "WARNING: n2: 1 of its replicas did not come up" in log
    assert "WARNING: n3 is left out: not ready after" in log
    told = jobs.cluster("status", str(jobs.results))
    assert "left out: n3" in told
    assert "3 replicas" in told


def test_a_replica_killed_in_the_run(jobs: Jobs) -> None:
    """That run has failed; the next one goes on without it."""
    job_id = jobs.submit(
        nodes=2,
        servers={"min_replicas": 3} | SLOW,
        measure=[{"scenario": "server"}, {"scenario": "offline"}],
        **runs(jobs.folder, 12),  # the killing takes seconds on a busy machine
    )
    jobs.until_answers("server/performance")
    node = jobs.slurm.job(job_id)["NodeList"]  # n[2-3]: the first is free of the other tests' jobs
    victim = jobs.slurm.call("scontrol", "show", "hostnames", node).split()[1]
    (pid,) = jobs.engine_pids(victim, 30001)
    os.kill(pid, signal.SIGKILL)
    jobs.end(job_id, "FAILED")
    server = jobs.measured("server-performance")
    assert (server["exit_code"], unmarked(server["verdict"])) == (4, "FAILED")
    offline = jobs.measured("offline-performance")
    assert offline["exit_code"] == 0
    assert len(offline["replicas"]) == 3
    assert f"WARNING: http://{victim}:30001 is left out" in jobs.log(job_id)


def test_scancel_in_the_middle(jobs: Jobs) -> None:
    job_id = jobs.submit(servers=SLOW, measure=[{"scenario": "server"}], **runs(jobs.folder))
    jobs.until_answers("server/performance")
    jobs.slurm.call("scancel", job_id)
    jobs.end(job_id, "CANCELLED")
    assert unmarked(jobs.measured("server-performance")["verdict"]) == "INTERRUPTED"
    table = pq.read_table(jobs.results / "server" / "performance" / "queries.parquet")
    assert table.num_rows > 0
    assert "ended: Slurm ends the job" in jobs.cluster("status", str(jobs.results))


def test_requeue_goes_on_with_what_is_missing(jobs: Jobs) -> None:
    job_id = jobs.submit(
        servers=SLOW,
        measure=[{"scenario": "offline"}, {"scenario": "server"}],
        **runs(jobs.folder, 7),
    )
    jobs.until_answers("server/performance")
    first = jobs.measured("offline-performance")
    jobs.slurm.call("scontrol", "requeue", job_id)
    until(lambda: jobs.slurm.job(job_id)["Restarts"] == "1", 30, "requeued")
    jobs.end(job_id, "COMPLETED")
    assert "restart 1" in jobs.log(job_id)
    assert "offline-performance: is done, skipped" in jobs.log(job_id)
    assert jobs.measured("offline-performance") == first
    assert jobs.measured("server-performance")["exit_code"] == 0
    earlier = [path.name for path in (jobs.results / "server").iterdir()]
    assert len(earlier) == 2  # the interrupted run was moved aside


def test_a_node_goes_down(jobs: Jobs) -> None:
    """Its replicas fall silent: the run has failed, the job goes on with the other node."""
    flags = [
        "--between-tokens-timeout",
        "2",
        "--first-token-timeout",
        "3",
        "--connect-timeout",
        "2",
    ]
    job_id = jobs.submit(
        nodes=2,
        servers={"min_replicas": 2} | SLOW,
        flags=flags,
        measure=[{"scenario": "server"}, {"scenario": "offline"}],
        **runs(jobs.folder, 6),
    )
    jobs.until_answers("server/performance")
    nodes = jobs.slurm.call("scontrol", "show", "hostnames", jobs.slurm.job(job_id)["NodeList"])
    lost = nodes.split()[1]
    jobs.slurm.power_cut(lost)
    jobs.slurm.set_down(lost)
    try:
        jobs.slurm.wait(job_id, "FAILED", limit_s=90)
        assert unmarked(jobs.measured("server-performance")["verdict"]) == "FAILED"
        offline = jobs.measured("offline-performance")
        assert offline["exit_code"] == 0
        assert offline["replicas"] == [
            f"http://{nodes.split()[0]}:{port}" for port in (30000, 30001)
        ]
    finally:
        jobs.slurm.power_on(lost)
    until(lambda: not jobs.left(), 15, "no process left on the nodes")


def test_the_time_limit_saves_what_there_is(limited: tuple[Jobs, str]) -> None:
    jobs, job_id = limited
    job = jobs.end(job_id, "FAILED")
    assert job["ExitCode"] == "130:0"
    log = jobs.log(job_id)
    assert "the time limit is near: the run is told to end" in log
    assert "did not end" not in log
    assert jobs.measured("offline-performance")["exit_code"] == 0
    assert unmarked(jobs.measured("server-performance")["verdict"]) == "INTERRUPTED"
    table = pq.read_table(jobs.results / "server" / "performance" / "queries.parquet")
    assert table.num_rows > 0
