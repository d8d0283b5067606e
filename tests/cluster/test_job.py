"""A job's file: what it leaves out, and what it has wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.job import MODEL, Job, Servers, read_job, seconds
from cluster.planning import make_plan
from cluster.script import render
from cluster.site import read_site
from core.errors import ConfigError
from tests.cluster.inputs import job_file, site_file, written

VLLM = {"engine": "vllm", "replicas_per_node": 8}


def test_defaults(tmp_path: Path) -> None:
    content = {
        "time": "10:00",
        "servers": {"engine": "sglang"},
        "measure": [{"scenario": "server"}],
    }
    job = read_job(written(tmp_path / "night.yaml", content))
    assert job == Job(
        name="night",
        folder=tmp_path.resolve() / "results" / "night",
        nodes=1,
        nodelist=None,
        exclude=None,
        time="10:00",
        warn_s=120,
        gpus_per_node=8,
        check_nodes=True,
        container=True,
        separate=False,
        environment=(),
        servers=Servers(
            engine="sglang",
            model=MODEL,
            model_folder=None,
            per_node=8,
            minimum=8,
            port=30_000,
            python=None,
            flags=(),
            engine_flags=(),
            ready_timeout_s=5400,
            patience_s=600,
            grace_s=20,
            excluded=(),
        ),
        chain=job.chain,
        files=(),
    )
    assert [one.name for one in job.chain] == ["server-performance"]


def test_a_rehearsal_needs_no_gpu_no_model_no_container(tmp_path: Path) -> None:
    for engine in ("emulator", "embedded"):
        job = read_job(job_file(tmp_path, {"engine": engine}))
        assert (job.gpus_per_node, job.container, job.servers.model) == (0, False, None)
        plan = make_plan(read_site(site_file(tmp_path)), job, job.chain)
        assert "--platform" not in plan.serve and "--model_path" not in plan.serve
        assert not any(word.startswith("--gres") for word in plan.serve)
    job = read_job(job_file(tmp_path, container=True, gpus_per_node=1))
    assert (job.container, job.gpus_per_node) == (True, 1)


def test_everything_set(tmp_path: Path) -> None:
    servers = {
        **VLLM,
        "model": "models/x",
        "min_replicas": 14,
        "port": 40_000,
        "python": "/engine/python",
        "flags": ["--stream-interval", "7"],
        "engine_flags": ["--max-num-seqs", "512"],
        "ready_timeout_s": 60,
        "patience_s": 5,
        "grace_s": 6,
        "exclude_gpus": {"n1": "3", "n2.site": "05"},
    }
    path = job_file(
        tmp_path,
        servers,
        nodes=2,
        nodelist="n[1-2,07]",
        exclude="n9",
        time="1-02:00",
        warn_s=900,
        gpus_per_node=4,
        check_nodes="no",
        container="no",
        chain="jobs",
        environment={"A": "b"},
        results="/shared/r",
    )
    job = read_job(path)
    found = job.servers
    assert job.folder == Path("/shared/r/j") and (job.nodes, job.time) == (2, "1-02:00")
    assert (job.nodelist, job.exclude, job.warn_s) == ("n[1-2,07]", "n9", 900)
    assert (job.gpus_per_node, job.check_nodes, job.container) == (4, False, False)
    assert job.separate and job.environment == (("A", "b"),)
    assert (found.per_node, found.minimum, found.port, found.grace_s) == (8, 14, 40_000, 6)
    assert (found.python, found.ready_timeout_s, found.patience_s) == ("/engine/python", 60, 5)
    assert found.excluded == (("n1", "3"), ("n2.site", "05"))
    assert (found.model, found.model_folder, job.files) == ("models/x", None, ())
    text = render(read_site(site_file(tmp_path, gpus={"platform": "rocm"})), job)[0].text
    assert "#SBATCH --nodelist=n[1-2,07]\n#SBATCH --exclude=n9\n#SBATCH --time=1-02:00" in text
    assert "#SBATCH --signal=B:USR1@900\n" in text and "#SBATCH --gres=gpu:4\n" in text
    assert '"check": []' in text


@pytest.mark.parametrize(
    ("model", "folder"),
    [("/m", "/m"), ("~/m", "/home/me/m"), ("./m", "{here}/m"), ("../m", "{above}/m"), ("o/m", "")],
)
def test_a_model_is_a_folder_where_it_looks_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, folder: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    here = tmp_path.resolve()
    wanted = folder.format(here=here, above=here.parent)
    job = read_job(job_file(tmp_path, VLLM | {"model": model}))
    assert job.servers.model == (wanted or model)
    assert job.servers.model_folder == (Path(wanted) if wanted else None)
    assert job.files == ((Path(wanted),) if wanted else ())


def test_excluded_gpus_cost_their_replicas(tmp_path: Path) -> None:
    excluded = {"n1": "3,5", "n2": "0"}
    job = read_job(job_file(tmp_path, VLLM | {"exclude_gpus": excluded}, nodes=2))
    assert job.servers.minimum == 13


@pytest.mark.parametrize(
    ("time", "wanted"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("1:30:00", 5400),
        ("02:00:00", 7200),
        ("1-0", 86_400),
        ("1-2", 93_600),
        ("1-2:30", 95_400),
        ("1-2:30:15", 95_415),
    ],
)
def test_times_as_slurm_reads_them(tmp_path: Path, time: str, wanted: int) -> None:
    assert seconds(time) == wanted
    assert read_job(job_file(tmp_path, time=time)).time == time


@pytest.mark.parametrize(("time", "warn_s"), [("08:00:00", 300), ("10:00", 120), ("0:04", 1)])
def test_the_warning_comes_in_the_last_fifth(tmp_path: Path, time: str, warn_s: int) -> None:
    assert read_job(job_file(tmp_path, time=time)).warn_s == warn_s


@pytest.mark.parametrize(
    ("servers", "changed", "field", "value", "remedy"),
    [
        ({}, {"name": "a/b"}, "name", "'a/b'", "must match"),
        ({}, {"name": ".."}, "name", "'..'", "must match"),
        ({}, {"name": "a\nb"}, "name", r"'a\nb'", "one line"),
        ({}, {"nodes": 0}, "nodes", "'0'", "be a whole number of at least 1"),
        ({}, {"nodes": "2-4"}, "nodes", "'2-4'", "be a whole number"),
        ({}, {"time": None}, "time", "missing", "missing"),
        ({}, {"time": "8h"}, "time", "'8h'", "must match"),
        ({}, {"time": "1:2:3:4"}, "time", "'1:2:3:4'", "must match"),
        ({}, {"time": "00:00:00"}, "warn_s", "'1'", "be less than the job's time"),
        ({}, {"warn_s": 3600}, "warn_s", "'3600'", "be less than the job's time, 01:00:00"),
        ({}, {"nodelist": "n1 n2"}, "nodelist", "'n1 n2'", "must match"),
        ({}, {"nodelist": "n1;touch"}, "nodelist", "'n1;touch'", "must match"),
        ({}, {"exclude": "$(x)"}, "exclude", "'$(x)'", "must match"),
        ({}, {"results": "/a b"}, "results", "'/a b/j'", "be a path without spaces"),
        ({}, {"results": "/a%j"}, "results", "'/a%j/j'", "be a path without spaces"),
        ({}, {"results": "/a:b"}, "results", "'/a:b/j'", "be a path without spaces"),
        ({}, {"results": "/a,b"}, "results", "'/a,b/j'", "be a path without spaces"),
        ({}, {"results": "/a'b"}, "results", "/a'b/j", "be a path without spaces"),
        ({}, {"check_nodes": "1"}, "check_nodes", "'1'", "be true or false"),
        ({}, {"container": "docker"}, "container", "'docker'", "be true or false"),
        ({}, {"chain": "job"}, "chain", "'job'", "be one of one-job, jobs"),
        ({}, {"gpus_per_node": "all"}, "gpus_per_node", "'all'", "be a whole number"),
        ({}, {"environment": {"A B": "x"}}, "A B", "'x'", "have a name like"),
        ({}, {"environment": {"A": ["x"]}}, "A", "['x']", "be one text"),
        ("vllm", {}, "servers", "'vllm'", "be fields such as"),
        ("", {}, "servers: engine", "missing", "missing"),
        ({}, {"node": 4}, "node", "no such field", "did you mean nodes?"),
        ({"engine": "tgi"}, {}, "engine", "'tgi'", "be one of sglang, vllm, emulator, embedded"),
        ({"replicas": 3}, {}, "servers: replicas", "no such field", "did you mean"),
        ({"replicas_per_node": 0}, {}, "replicas_per_node", "'0'", "at least 1"),
        ({"min_replicas": 3}, {}, "min_replicas", "3", "but 1 nodes have 2"),
        ({"min_replicas": 0}, {}, "min_replicas", "'0'", "at least 1"),
        ({"model": "/a b"}, {}, "model", "'/a b'", "be a path without spaces"),
        ({"model": "./a,b"}, {}, "model", "a,b'", "be a path without spaces"),
        ({"model": "/a:ro"}, {}, "model", "'/a:ro'", "be a path without spaces"),
        ({"port": "high"}, {}, "port", "'high'", "be a whole number"),
        ({"port": 65_535}, {}, "port", "65535", "65536"),
        ({"flags": "--x"}, {}, "flags", "'--x'", "be a list"),
        ({"flags": ["a\nPLAN\nb"]}, {}, "flags", r"\nPLAN\n", "no control characters"),
        ({"engine_flags": [["x"]]}, {}, "engine_flags", "[['x']]", "be a list"),
        ({"ready_timeout_s": "1h"}, {}, "ready_timeout_s", "'1h'", "be a whole number"),
        ({"exclude_gpus": ["3"]}, {}, "exclude_gpus", "['3']", "be fields such as"),
        ({"exclude_gpus": {"n1": "3-5"}}, {}, "exclude_gpus, n1", "'3-5'", "be GPUs such as 3,5"),
        ({"exclude_gpus": {"n1": "3,"}}, {}, "exclude_gpus, n1", "'3,'", "be GPUs such as 3,5"),
        (VLLM | {"exclude_gpus": {"n1": "3,3"}}, {}, "exclude_gpus, n1", "'3,3'", "each once"),
        ({"exclude_gpus": {"n1": "0,1"}}, {}, "exclude_gpus, n1", "'0,1'", "leave one; exclude"),
        ({"exclude_gpus": {"n 1": "3"}}, {}, "exclude_gpus", "'3'", "have a name like"),
        (
            VLLM | {"exclude_gpus": {"n1": "3"}, "min_replicas": 8},
            {},
            "min_replicas",
            "8",
            "have 7",
        ),
    ],
)
def test_wrong_input(
    tmp_path: Path,
    servers: object,
    changed: dict[str, Any],
    field: str,
    value: str,
    remedy: str,
) -> None:
    path = job_file(tmp_path, servers, **changed)
    with pytest.raises(ConfigError) as raised:
        read_job(path)
    said = str(raised.value)
    assert said.startswith(str(path)) and "\n" not in said
    assert field in said and value in said and remedy in said
