"""The scripts that are given to Slurm, word for word, and what a shell makes of them.

After a wanted change, `python -m tests.cluster.test_scripts` writes the golden files anew; read the
difference.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from cluster import planning
from cluster.job import read_job
from cluster.plan import Plan, read_plan
from cluster.planning import make_plan
from cluster.script import render
from cluster.site import read_site
from core.errors import ConfigError
from tests.cluster.inputs import job_file, site_file
from tests.harness import ROOT

EXAMPLES = ROOT / "cluster" / "examples"
GOLDEN = Path(__file__).resolve().parent / "golden"
HARNESS = Path("/HARNESS")
DOCKER = {
    "name": "docker",
    "gpus": {"platform": "cuda", "request": "gpus-per-node", "type": "b200"},
    "reservation": "mlperf",
    "container": {"style": "docker", "environment": ["NCCL_DEBUG"], "flags": ["--shm-size=64g"]},
}
PODMAN = {
    "name": "podman",
    "gpus": {"platform": "rocm"},
    "container": {"style": "podman", "image": "docker.io/rocm/vllm:x", "devices": "always"},
    "srun_options": ["--export=ALL"],
    "python": "/opt/a python/bin/python",
}
# case -> an example of a site or its content, an example of a job, what is changed there
CASES: dict[str, tuple[str | dict[str, Any], str, dict[str, Any]]] = {
    "mi355x-pyxis-submission": ("mi355x-pyxis", "submission", {}),
    "h200-enroot-submission": ("h200-enroot", "submission", {}),
    "bare-submission": ("bare", "submission", {}),
    "mi355x-pyxis-sweep": ("mi355x-pyxis", "sweep", {}),
    "bare-rehearsal": ("bare", "rehearsal", {}),
    "docker-submission": (DOCKER, "submission", {"submission": ["server"], "exclude": "n13"}),
    "podman-sweep": (PODMAN, "sweep", {"environment": {"A": "it's here", "B": ""}}),
    "bare-rehearsal-jobs": ("bare", "rehearsal", {"chain": "jobs", "nodelist": "n[1-2]"}),
    "mi355x-pyxis-exclude": (
        "mi355x-pyxis",
        "sweep",
        {"servers": {"engine": "sglang", "exclude_gpus": {"n1": "3,5"}}, "nodes": 2},
    ),
}


def rendered(case: str) -> dict[str, str]:
    """File name -> script, as if the harness lay in /HARNESS."""
    site, job, changed = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        path = EXAMPLES / f"{site}.yaml"
        if isinstance(site, dict):
            path = Path(folder) / "site.yaml"
            path.write_text(yaml.safe_dump(site))
        content = yaml.load((EXAMPLES / f"{job}.yaml").read_text(), yaml.BaseLoader)
        content |= {"results": "/SHARED/results"} | changed
        asked = Path(folder) / "job.yaml"
        asked.write_text(yaml.safe_dump(content))
        with mock.patch.object(planning, "HARNESS", HARNESS):
            found = render(read_site(path), read_job(asked))
    names = [case] if len(found) == 1 else [f"{case}.{one.name}" for one in found]
    return {name: one.text for name, one in zip(names, found, strict=True)}


def plan_of(text: str) -> str:
    return text.partition("<<'PLAN'\n")[2].removesuffix("\nPLAN\n")


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    for name, text in rendered(case).items():
        assert text == (GOLDEN / f"{name}.sbatch").read_text()


def test_every_golden_file_is_a_case() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == {n for case in CASES for n in rendered(case)}


@pytest.mark.parametrize("site", ["bare", "h200-enroot", "mi355x-pyxis"])
@pytest.mark.parametrize("job", ["rehearsal", "submission", "sweep"])
def test_the_examples_as_they_are(site: str, job: str) -> None:
    found = read_job(EXAMPLES / f"{job}.yaml")
    scripts = render(read_site(EXAMPLES / f"{site}.yaml"), found)
    assert [one.name for one in scripts] == ["job"] and f"--time={found.time}\n" in scripts[0].text
    if job == "rehearsal":
        assert found.folder == EXAMPLES / "results" / "rehearsal"


def test_a_shell_can_read_them() -> None:
    files = sorted(str(file) for file in GOLDEN.iterdir())
    for file in files:
        subprocess.run(["bash", "-n", file], check=True, timeout=30)
    if shutil.which("shellcheck") is None:
        assert "CI" not in os.environ, "no shellcheck: apt-get install shellcheck"
        pytest.skip("bash can read them; no shellcheck to ask")
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_in_none_of_them() -> None:
    """A path of the machine where they were made."""
    texts = [file.read_text() for file in GOLDEN.iterdir()]
    assert not any(str(ROOT) in text or str(Path.home()) + "/" in text for text in texts)


@pytest.mark.parametrize("case", CASES)
def test_a_plan_is_read_as_it_was_meant(case: str) -> None:
    site, job, _ = CASES[case]
    for text in rendered(case).values():
        plan = read_plan(plan_of(text))
        assert read_plan(plan.to_json()) == plan
        long = [line for line in text.splitlines() if len(line) > 105]  # to be read and edited
        assert not any('", "' in line for line in long)
    if isinstance(site, str) and "jobs" not in case and "exclude" not in case:
        of_site, of_job = read_site(EXAMPLES / f"{site}.yaml"), read_job(EXAMPLES / f"{job}.yaml")
        of_job = replace(of_job, folder=Path("/SHARED/results") / of_job.name)
        with mock.patch.object(planning, "HARNESS", HARNESS):
            assert plan == make_plan(of_site, of_job, of_job.chain)


def some_plan(folder: Path) -> Plan:
    job = read_job(job_file(folder))
    return make_plan(read_site(site_file(folder)), job, job.chain)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda plan: plan.pop("grace_s"), "missing or unknown: grace_s"),
        (lambda plan: plan.update(grace="1"), "missing or unknown: grace"),
        (lambda plan: plan.pop("measurements"), "measurements"),
        (lambda plan: plan.update(measurements=3), "cannot be used"),
        (lambda plan: plan.update(measurements=["x"]), "cannot be used"),
        (lambda plan: plan["measurements"][0].pop("needs"), "missing or unknown: needs"),
        (lambda plan: plan["measurements"][0].update(need=[]), "missing or unknown: need"),
    ],
)
def test_a_plan_edited_by_hand(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], said: str
) -> None:
    plan = json.loads(some_plan(tmp_path).to_json())
    read_plan(json.dumps(plan))
    edit(plan)
    with pytest.raises(ConfigError, match="the plan in the script cannot be used") as raised:
        read_plan(json.dumps(plan))
    assert said in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"measurements": []}'])
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(ConfigError, match="the plan in the script cannot be used"):
        read_plan(text)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for file in GOLDEN.iterdir():
        file.unlink()
    for each in CASES:
        for name, text in rendered(each).items():
            (GOLDEN / f"{name}.sbatch").write_text(text)
    sys.stdout.write(f"{len(list(GOLDEN.iterdir()))} files in {GOLDEN}\n")
