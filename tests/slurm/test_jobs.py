"""Jobs from render to results: emulated and embedded engines on every node, one LoadGen over all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness import OFFLINE_CONF, server_conf, unmarked, write_conf, write_dataset
from tests.slurm.jobs import Jobs
from tests.slurm.mini import MiniSlurm

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def jobs(slurm: MiniSlurm, tmp_path: Path) -> Jobs:
    return Jobs(slurm, tmp_path)


def test_sixty_four_replicas_on_four_nodes(jobs: Jobs) -> None:
    dataset = write_dataset(jobs.folder / "data.parquet", n=6396)
    offline = ("*.Offline.min_duration = 0", "*.Offline.min_query_count = 12792")  # 200 a replica
    conf = write_conf(jobs.folder / "user.conf", *offline, *server_conf(320, 10))
    job_id = jobs.submit(
        nodes=4,
        check_nodes="true",
        servers={
            "replicas_per_node": 16,
            "engine_flags": [
                "--osl",
                "16",
                "--ttft-ms",
                "20",
                "--itl-ms",
                "5",
                "--max-running",
                "4",
            ],
        },
        datasets={"performance": str(dataset)},
        user_conf=str(conf),
        measure=[
            {"scenario": "offline"},
            {"scenario": "server"},
        ],
    )
    job = jobs.end(job_id, "COMPLETED")
    assert job["ExitCode"] == "0:0"
    urls = [f"http://n{node}:{30000 + port}" for node in range(1, 5) for port in range(16)]
    for scenario in ("offline", "server"):
        assert sorted(jobs.measured(f"{scenario}-performance")["replicas"]) == sorted(urls)
        summary = jobs.summary(f"{scenario}/performance")
        assert unmarked(summary["verdict"]) == "UNOFFICIAL"
        assert not summary["failures"]
        # The mark itself is left to bench/: it follows lateness, which this machine's load decides.
        assert all(one["mean_busy"] < 0.8 for one in summary["headroom"]["processes"])
        tokens = [share["tokens"] for share in summary["replicas"]]
        mean = sum(tokens) / len(tokens)
        assert len(tokens) == 64
        assert max(tokens) / mean < 1.05
        assert min(tokens) / mean > 0.95
    results = json.loads((jobs.results / "results.json").read_text())
    assert [row["passed"] for row in results] == [True, True]
    for node in jobs.slurm.nodes:
        assert json.loads((jobs.results / "nodes" / node / "doctor.json").read_text())["findings"]
    status = jobs.cluster("status", str(jobs.results))
    assert f"job {job_id}: COMPLETED" in status
    assert "64 replicas" in status
    assert "offline-performance: UNOFFICIAL" in jobs.cluster("collect", str(jobs.results)) + status


def test_accuracy_then_performance_and_nothing_twice(jobs: Jobs) -> None:
    job: dict[str, Any] = {
        "nodes": 2,
        "servers": {"engine": "embedded", "replicas_per_node": 1},
        "user_conf": str(write_conf(jobs.folder / "user.conf", *OFFLINE_CONF)),
        "measure": [{"scenario": "offline", "kind": "accuracy"}, {"scenario": "offline"}],
    }
    first = jobs.submit(**job)
    jobs.end(first, "COMPLETED")
    assert unmarked(jobs.measured("offline-accuracy")["verdict"]) == "DEMONSTRATION"
    assert jobs.summary("offline/accuracy")["check"]["value"] > 82
    assert len(jobs.measured("offline-performance")["replicas"]) == 2

    refused = jobs.cluster(
        *("submit", "--site", f"{jobs.folder}/site.yaml", f"{jobs.folder}/job.yaml"), code=2
    )
    assert "--resume" in refused
    assert jobs.submit_all("--resume", **job) == []  # nothing is left to do


def test_no_number_without_accuracy(jobs: Jobs) -> None:
    """The emulator's answers are noise."""
    measure = [{"scenario": "offline", "kind": "accuracy"}, {"scenario": "offline"}]
    job_id = jobs.submit(measure=measure)
    jobs.end(job_id, "FAILED")
    assert "offline-performance: not started: offline-accuracy has not passed" in jobs.log(job_id)
    assert not (jobs.results / "offline" / "performance").exists()


def test_a_chain_of_jobs(jobs: Jobs) -> None:
    """The second needs the first to pass, which noise does not; the third needs nobody."""
    conf = write_conf(jobs.folder / "user.conf", *OFFLINE_CONF, *server_conf(200, 4))
    measure = [
        {"scenario": "offline", "kind": "accuracy"},
        {"scenario": "offline"},
        {"scenario": "server"},
    ]
    ids = jobs.submit_all(measure=measure, chain="jobs", user_conf=str(conf))
    assert len(ids) == 3
    jobs.end(ids[0], "FAILED")
    jobs.end(ids[1], "CANCELLED")
    jobs.end(ids[2], "COMPLETED")
    assert not (jobs.results / "measured" / "offline-performance.json").exists()
    assert jobs.measured("server-performance")["exit_code"] == 0


def test_only_slurm_can_say_whether_a_job_fits(jobs: Jobs) -> None:
    good = jobs.submit_all("--test-only", measure=[{"scenario": "offline"}])
    assert good == []
    assert not jobs.results.exists()
    job_file = jobs.folder / "job.yaml"
    job_file.write_text(job_file.read_text().replace("name: job", "name: job\nnodes: 9"))
    told = jobs.cluster(
        *("submit", "--test-only", "--site", f"{jobs.folder}/site.yaml", str(job_file)), code=4
    )
    assert "node configuration is not available" in told


def test_a_sweep_of_the_competition(jobs: Jobs) -> None:
    flags = ["--num-prompts-per-conc", "4"]
    job_id = jobs.submit(
        servers={"engine_flags": ["--ttft-ms", "5", "--itl-ms", "2"]},
        measure=[{"sweep": "64/16", "conc": "2", "flags": flags}],
    )
    jobs.end(job_id, "COMPLETED")
    assert jobs.measured("sweep-64x16")["verdict"] == "PASSED"
    assert (jobs.results / "sweep-64x16" / "table.md").exists()
