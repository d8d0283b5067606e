"""Servers in containers, and the GPUs that they see, on the real Slurm.

pyxis' options go to a plugin that writes them down, enroot and docker are programs of the tests'.
The engine is an interpreter that says what it is given, then becomes the emulator in vLLM's dialect.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.harness import OFFLINE_CONF, ROOT, write_conf, write_dataset
from tests.slurm.jobs import Jobs
from tests.slurm.mini import MiniSlurm, until

SHIMS = ROOT / "tests" / "shims"
IMAGE, SQUASH = "example/vllm:v1", "example_vllm_v1.sqsh"
GPU_NAMES = (
    *("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
)
SECRET = "hf_a-secret-value"
ENGINE = r"""#!/bin/bash
# The question for its libraries, then a server.
[[ $1 != -c ]] || { echo '{"vllm": ["0.22.0", "/nowhere/vllm/__init__.py"]}'; exit; }
for word; do [[ $word != --port=* ]] || port=${word#*=}; done
replica=$(uname -n)-$port # HOSTNAME is handed on from the job's first node
env -0 >"$SEEN/.new-$replica"
mv "$SEEN/.new-$replica" "$SEEN/$replica"
until [[ -e $SEEN/go ]]; do sleep 0.1; done
cd "$ROOT"
exec "$PYTHON" -m engine clock --dialect vllm --host 0.0.0.0 --port "$port" --osl 8
"""
# `docker run` in the foreground, with the variables that are named and no others.
DOCKER = r"""#!/bin/bash
line=$(printf '%q ' "$(uname -n)" "$@")
echo "$line" >>"$DOCKER_LOG" # in one write: nodes append to the same file
[[ $1 == run ]] || exit 0
shift
names=()
while [[ $1 == -* ]]; do
    case $1 in
    --env=*) name=${1#*=} && [[ ! -v $name ]] || names+=("$name=${!name}") ;;
    --entrypoint=*) program=${1#*=} ;;
    --workdir=*) cd "${1#*=}" ;;
    esac
    shift
done
exec env -i PATH=/usr/bin:/bin HOME=/root "${names[@]}" "$program" "${@:2}"
"""


class Fleet(Jobs):
    """Jobs whose servers tell what they see."""

    @property
    def seen(self) -> Path:
        return self.folder / "seen"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def job(self, held: bool = False, **servers: Any) -> dict[str, Any]:
        """A short Offline run. held: servers are not ready before go()."""
        for folder in (self.seen, self.model):
            folder.mkdir()
        engine = program(self.folder / "engine", ENGINE)
        if not held:
            self.go()
        return {
            "servers": {
                "engine": "vllm",
                "model": str(self.model),
                "python": str(engine),
                "flags": ["--cache-dir", str(self.folder / "cache")],
                **servers,
            },
            "environment": {"SEEN": str(self.seen), "PYTHON": sys.executable, "ROOT": str(ROOT)},
            "user_conf": str(write_conf(self.folder / "user.conf", *OFFLINE_CONF)),
            "datasets": {"performance": str(write_dataset(self.folder / "data.parquet"))},
            "measure": [{"scenario": "offline"}],
        }

    def go(self) -> None:
        (self.seen / "go").touch()

    def variables(self, node: str, port: int) -> dict[str, str]:
        """Of that replica."""
        pairs = (self.seen / f"{node}-{port}").read_bytes().decode().split("\0")
        return dict(pair.split("=", 1) for pair in pairs if pair)

    def gpus(self, node: str, port: int) -> dict[str, str]:
        """Those of its variables that choose GPUs."""
        return {k: v for k, v in self.variables(node, port).items() if k in GPU_NAMES}

    def replicas(self) -> set[str]:
        return {path.name for path in self.seen.glob("n*")}

    def until_started(self, number: int) -> None:
        until(lambda: len(self.replicas()) == number, 30, f"{number} engines are started")

    def said(self, node: str, step: str) -> str:
        path = self.results / "nodes" / node / f"{step}.log"
        return path.read_text() if path.exists() else ""

    def nodes_of(self, job_id: str) -> list[str]:
        listed = self.slurm.job(job_id)["NodeList"]
        return self.slurm.call("scontrol", "show", "hostnames", listed).split()

    def succeeds(self, job_id: str) -> None:
        """Its servers ended by TERM, with 0: none was killed, the number counts."""
        assert self.end(job_id, "COMPLETED")["ExitCode"] == "0:0"
        log = self.log(job_id)
        assert "WARNING" not in log, log
        for node in self.nodes_of(job_id):
            assert "stopping all replicas" in self.said(node, "serve")
        assert self.measured("offline-performance")["exit_code"] == 0


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fleet(slurm: MiniSlurm, folder: Path, **environment: str) -> Fleet:
    """With enroot's stand-in on PATH, as sbatch hands it on to the job."""
    folder.mkdir(exist_ok=True)
    usual = {
        "PATH": f"{SHIMS}:{slurm.environment['PATH']}",
        "FAKE_ENROOT_LOG": str(folder / "enroot.log"),
        "ENROOT_SYSCONF_PATH": str(folder / "etc"),
        "ENROOT_RUNTIME_PATH": str(folder / "runtime"),
    }
    return Fleet(slurm, folder, usual | environment)


def calls(log: Path, which: str) -> list[list[str]]:
    """Of enroot, by its first argument."""
    if not log.exists():
        return []
    lines = [shlex.split(line) for line in log.read_text().splitlines()]
    return [words for words in lines if words[0] == which]


def pyxis(images: Path, **more: Any) -> dict[str, Any]:
    return {"container": {"style": "pyxis", "image": IMAGE, "squash_dir": str(images), **more}}


def test_pyxis_runs_the_servers_and_nothing_else(slurm: MiniSlurm, tmp_path: Path) -> None:
    """And a job after it imports nothing."""
    jobs, log = fleet(slurm, tmp_path), tmp_path / "enroot.log"
    site = pyxis(jobs.images, mounts=["/opt:/opt:ro"], environment=["MY_SETTING"])
    site |= {"environment": {"HF_HOME": "/hf"}}
    job_id = jobs.submit(site=site, nodes=2, nodelist="n[3-4]", **jobs.job())
    until((jobs.images / SQUASH).exists, 30, "the image is imported")
    other = fleet(slurm, tmp_path / "other", FAKE_ENROOT_LOG=str(log))
    again = other.submit(site=pyxis(jobs.images), nodelist="n1", **other.job(replicas_per_node=1))
    jobs.succeeds(job_id)
    other.succeeds(again)
    mounts = [f"{ROOT}:{ROOT}", f"{jobs.results}:{jobs.results}"]
    mounts += [f"{jobs.model}:{jobs.model}:ro", "/opt:/opt:ro"]
    wanted = {
        "container-image": str(jobs.images / SQUASH),
        "container-mounts": ",".join(mounts),
        "container-env": "HF_HOME,PYTHON,ROOT,SEEN,MY_SETTING",
        "container-writable": "yes",
        "container-remap-root": "yes",
        "no-container-entrypoint": "yes",
    }
    rows = slurm.containers(job_id)
    assert sorted(row["node"] for row in rows) == ["n3", "n4"]
    for row in rows:
        assert {k: v for k, v in row.items() if "container" in k} == wanted
        assert row["step"].isdigit() and row["rank"] == "0"
    assert jobs.replicas() == {f"{node}-{port}" for node in ("n3", "n4") for port in (30000, 30001)}

    assert [words[-1] for words in calls(log, "import")] == [f"docker://{IMAGE}"]
    assert [node for node in slurm.nodes if jobs.said(node, "prepare")] == ["n3"]
    assert f"{SQUASH} is there" in other.said("n1", "prepare")
    (row,) = slurm.containers(again)
    assert row["container-image"] == str(jobs.images / SQUASH)


def enroot_site(jobs: Fleet, **container: Any) -> dict[str, Any]:
    """The interpreter behind .venv lies in no image; sandboxes lie on each node's own disk."""
    inside = [sys.base_prefix, str(jobs.folder)]
    return {
        "container": {
            "style": "enroot",
            "mounts": [f"{path}:{path}" for path in inside],
            "environment": ["MY_SETTING", "NOT_SET"],
            **container,
        },
        "environment": {"ENROOT_DATA_PATH": str(jobs.slurm.local_disk / "enroot")},
    }


def test_enroot_runs_the_servers_in_its_sandboxes(slurm: MiniSlurm, tmp_path: Path) -> None:
    jobs = fleet(slurm, tmp_path, MY_SETTING="a b", STRANGER="never", HF_TOKEN=SECRET)
    site = enroot_site(jobs, image=IMAGE, squash_dir=str(jobs.images))
    job_id = jobs.submit(site=site, nodes=2, **jobs.job())
    jobs.succeeds(job_id)
    log = tmp_path / "enroot.log"
    squash = jobs.images / SQUASH
    label = SQUASH.removesuffix(".sqsh")
    assert len(calls(log, "import")) == 1
    assert calls(log, "create") == [["create", "--name", label, str(squash)]] * 2
    nodes = jobs.nodes_of(job_id)
    assert len(nodes) == 2
    for node in nodes:
        assert (slurm.disk_of(node) / "enroot" / label / "etc" / "image").exists()
        for number, port in enumerate((30000, 30001)):
            got = jobs.variables(node, port)
            assert jobs.gpus(node, port) == {
                "ROCR_VISIBLE_DEVICES": "0,1",
                "HIP_VISIBLE_DEVICES": str(number),
            }
            assert (got["MY_SETTING"], got["HF_TOKEN"]) == ("a b", SECRET)
            assert got["SLURM_JOB_ID"] == job_id
            assert not {"NOT_SET", "STRANGER", "NVIDIA_VISIBLE_DEVICES"} & set(got)
            assert got["HOME"] == "/root" and got["PATH"] != jobs.environment["PATH"]
    assert SECRET not in log.read_text() + (jobs.results / "job.sbatch").read_text()


def test_enroot_takes_an_image_file_as_it_is(slurm: MiniSlurm, tmp_path: Path) -> None:
    """Imported by somebody else; and the emulator, which runs in a container where that is asked."""
    jobs = fleet(slurm, tmp_path)
    file = tmp_path / "ours.sqsh"
    made = slurm.exec(
        "n1", *("env", *(f"{k}={v}" for k, v in jobs.environment.items())),
        *("enroot", "import", "-o", str(file), f"docker://{IMAGE}"),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    job = jobs.job(engine="emulator", model=None, replicas_per_node=1)
    del job["servers"]["model"], job["servers"]["python"]
    site = enroot_site(jobs, image=str(file), squash_dir=str(jobs.images))
    job_id = jobs.submit(site=site, container="true", **job)
    jobs.succeeds(job_id)
    (start,) = calls(tmp_path / "enroot.log", "start")
    assert "ours" in start and str(ROOT / "run_server.sh") in start
    assert len(calls(tmp_path / "enroot.log", "import")) == 1
    assert not jobs.images.exists()


def test_two_jobs_at_once_import_once(slurm: MiniSlurm, tmp_path: Path) -> None:
    hold, images, log = tmp_path / "hold", tmp_path / "images", tmp_path / "enroot.log"
    hold.mkdir()
    os.mkfifo(hold / "go")
    first = fleet(slurm, tmp_path / "1", FAKE_ENROOT_LOG=str(log))
    first.environment["FAKE_ENROOT_HOLD"] = f"import {hold}"
    second = fleet(slurm, tmp_path / "2", FAKE_ENROOT_LOG=str(log))
    job = first.job(replicas_per_node=1)
    one = first.submit(site=pyxis(images), nodelist="n1", **job)
    until((hold / "waiting").exists, 30, "the first job imports")
    job = second.job(replicas_per_node=1)
    two = second.submit(site=pyxis(images), nodelist="n2", **job)
    until(lambda: "waiting for another run" in second.said("n2", "prepare"), 30, "the second waits")
    assert not (images / SQUASH).exists()
    (hold / "go").write_text("")  # a fifo: the one that imports goes on
    first.succeeds(one)
    second.succeeds(two)
    assert len(calls(log, "import")) == 1
    assert "is there" in second.said("n2", "prepare")


@pytest.mark.parametrize("platform", ["rocm", "cuda"])
def test_two_jobs_share_the_gpus_of_a_node(slurm: MiniSlurm, tmp_path: Path, platform: str) -> None:
    """Each replica has one of its own job's, and nothing that would hide it."""
    site = {"exclusive": "false", "gpus": {"platform": platform, "per_node": 8, "type": "mi355x"}}
    ports = {"1": range(30000, 30004), "2": range(30100, 30104)}
    fleets = {name: fleet(slurm, tmp_path / name) for name in ports}
    ids = {}
    for name, jobs in fleets.items():
        job = jobs.job(held=True, replicas_per_node=4, port=ports[name][0])
        ids[name] = jobs.submit(site=site, nodelist="n4", **job)
        jobs.until_started(4)
    for jobs in fleets.values():  # so far neither could end
        jobs.go()
    for name, job_id in ids.items():
        fleets[name].succeeds(job_id)
    found = {name: [fleets[name].gpus("n4", port) for port in ports[name]] for name in ports}
    own = {"1": "0123", "2": "4567"}
    for name, replicas in found.items():
        if platform == "rocm":  # ROCr counts the job's four from 0 again
            rest = {"ROCR_VISIBLE_DEVICES": ",".join(own[name])}
            assert replicas == [rest | {"HIP_VISIBLE_DEVICES": str(n)} for n in range(4)]
        else:
            assert [one["CUDA_VISIBLE_DEVICES"] for one in replicas] == list(own[name])


def test_docker_gets_names_and_is_cleaned_up_after(slurm: MiniSlurm, tmp_path: Path) -> None:
    tools, log = tmp_path / "tools", tmp_path / "docker.log"
    tools.mkdir()
    program(tools / "docker", DOCKER)
    path = f"{tools}:{slurm.environment['PATH']}"
    jobs = fleet(slurm, tmp_path, PATH=path, DOCKER_LOG=str(log), HF_TOKEN=SECRET, STRANGER="x")
    site = {"container": {"style": "docker", "image": IMAGE}}
    job_id = jobs.submit(site=site, nodes=2, **jobs.job())
    jobs.succeeds(job_id)
    assert SECRET not in log.read_text() + (jobs.results / "job.sbatch").read_text()
    said = [shlex.split(line) for line in log.read_text().splitlines()]
    nodes = jobs.nodes_of(job_id)
    for node in nodes:
        name = f"gptoss-harness-{job_id}-{node}"
        run, remove = [words[1:] for words in said if words[0] == node]
        assert remove == ["rm", "--force", name]
        given = {f"--name={name}", "--rm", "--network=host", "--env=HF_TOKEN", "--device=/dev/kfd"}
        given |= {f"--volume={jobs.model}:{jobs.model}:ro", f"--volume={ROOT}:{ROOT}"}
        assert given <= set(run[: run.index(IMAGE)])
        assert run[0] == "run"
        got = jobs.variables(node, 30001)
        assert (got["HF_TOKEN"], got["ROCR_VISIBLE_DEVICES"]) == (SECRET, "0,1")
        assert jobs.gpus(node, 30001)["HIP_VISIBLE_DEVICES"] == "1" and "STRANGER" not in got
    assert Counter(words[1] for words in said) == {"run": 2, "rm": 2}
    assert [words[1] for words in said[2:]] == ["rm", "rm"]  # once all servers have ended


def test_sick_gpus_are_left_out(slurm: MiniSlurm, tmp_path: Path) -> None:
    jobs = fleet(slurm, tmp_path)
    job = jobs.job(replicas_per_node=4, exclude_gpus={"n2": "1,3"})
    job_id = jobs.submit(nodes=2, nodelist="n[1-2]", **job)
    jobs.succeeds(job_id)
    shown = {
        name: jobs.gpus(name[:2], int(name[3:]))["HIP_VISIBLE_DEVICES"] for name in jobs.replicas()
    }
    all_four = {f"n1-{30000 + n}": str(n) for n in range(4)}
    assert shown == all_four | {"n2-30000": "0", "n2-30001": "2"}
    urls = [f"http://{name.replace('-', ':')}" for name in sorted(shown)]
    assert jobs.measured("offline-performance")["replicas"] == urls
