"""What a user's files say never runs in the script: the rendered scripts, run by a real shell."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.job import read_job
from cluster.plan import Plan, read_plan
from cluster.script import render
from cluster.site import read_site
from core.errors import ConfigError
from tests.cluster.inputs import job_file, site_file
from tests.harness import ROOT

# {made}: a file that would be there if it ran.
EVIL = [
    "$(touch {made})",
    "`touch {made}`",
    "x; touch {made}",
    "x && touch {made} #",
    "'; touch {made}; '",
    '"; touch {made}; "',
    'it\'s $HOME \\$HOME "two  spaces" *',
    "' \"$(touch {made})\" '",
    "PLAN",
    "-n",
    "~",
    "${{IFS}}é\u2028ü",
    "",
]
# For fields that are one word: what Slurm and a shell would take apart.
EVIL_WORDS = [
    "$(touch${{IFS}}{made})",
    "`touch${{IFS}}{made}`",
    "x;touch${{IFS}}{made}",
    "x&&touch${{IFS}}{made}",
    "x#y",
    "#x",
    "x|y>z",
]


@dataclass(frozen=True)
class Ran:
    """What the interpreter of a rendered script was given."""

    environ: dict[str, str]
    words: list[str]
    plan: Plan
    folder: str
    text: str


def run(folder: Path, site: dict[str, Any], job: dict[str, Any], servers: dict[str, Any]) -> Ran:
    """The script, by bash, with something that takes notes instead of Python and of `module`."""
    folder = folder / "the folder of notes"
    folder.mkdir()
    python, notes = folder / "a python's", folder / "notes"
    python.write_text(
        "#!/bin/bash\n"
        'notes=${0%/*}/notes; env -0 >"$notes.env"; printf "%s\\0" "$PWD" "$@" >"$notes.words"\n'
        'cat /dev/stdin >"$notes.plan"\n'
    )
    module = folder / "module"
    module.write_text('#!/bin/bash\nprintf "%s\\0" "$@" >>"${0%/*}/notes.modules"\n')
    for file in (python, module):
        file.chmod(0o755)
    (script,) = render(
        read_site(site_file(folder, **{"python": str(python)} | site)),
        read_job(job_file(folder, servers, results="/shared", **job)),
    )
    path = folder / "job.sbatch"
    path.write_text(script.text, encoding="utf-8")
    environ = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": "/home/me"}
    subprocess.run(
        ["bash", str(path)],
        cwd=folder,
        env=environ,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )
    found = dict(item.split("=", 1) for item in read_words(notes.with_suffix(".env")))
    cwd, *words = read_words(notes.with_suffix(".words"))
    plan = read_plan(notes.with_suffix(".plan").read_text())
    return Ran(found, words, plan, cwd, script.text)


def read_words(path: Path) -> list[str]:
    return path.read_bytes().decode().split("\0")[:-1]


def test_what_the_orchestrator_is_given(tmp_path: Path) -> None:
    ran = run(tmp_path, {}, {}, {})
    assert ran.words == ["-m", "cluster", "drive", "/dev/stdin"]
    assert ran.folder == str(ROOT)
    assert ran.plan.name == "j" and ran.plan.folder == "/shared/j"


def test_what_is_said_arrives_and_does_not_run(tmp_path: Path) -> None:
    """In everything that may be any text: variables, modules, flags, mounts, the interpreter."""
    made = tmp_path / "made"
    values = [text.format(made=made) for text in EVIL]
    shown = [value for value in values if value]
    site = {
        "environment": {f"SITE_{n}": value for n, value in enumerate(values)},
        "modules": shown,
        "container": {"style": "enroot", "image": "x", "mounts": [f"/a:{v}" for v in shown]},
    }
    job = {
        "environment": {f"JOB_{n}": value for n, value in enumerate(values)},
        "container": True,
        "flags": values,
        "measure": [{"scenario": "offline", "flags": values}],
    }
    servers = {"flags": values, "engine_flags": values, "python": values[0]}
    ran = run(tmp_path, site, job, servers)
    for n, value in enumerate(values):
        assert (ran.environ[f"SITE_{n}"], ran.environ[f"JOB_{n}"]) == (value, value)
    modules = read_words(tmp_path / "the folder of notes" / "notes.modules")
    assert modules == [word for value in shown for word in ("load", value)]
    serve, (measured,) = ran.plan.serve, ran.plan.measurements
    assert measured.words[-2 * len(values) :] == (*values, *values)
    assert serve[-2 * len(values) - 1 :] == (*values, "--", *values)
    assert serve[serve.index("--python") + 1] == values[0]
    assert {f"/a:{value}" for value in shown} <= set(serve)
    assert not made.exists()


def test_one_word_fields_stay_one_word_of_a_comment(tmp_path: Path) -> None:
    """#SBATCH lines: Slurm takes what stands there up to a space or a #, which is written \\#."""
    made = tmp_path / "made"
    for number, text in enumerate(EVIL_WORDS):
        value = text.format(made=made)
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        site: dict[str, Any] = {
            name: value for name in ("partition", "account", "qos", "reservation")
        }
        site |= {"sbatch_options": [f"--comment={value}"], "srun_options": [f"--comment={value}"]}
        ran = run(folder, site, {}, {"model": f"/m/{value}"})
        assert not made.exists() and f"--comment={value}" in ran.plan.serve
        assert str(Path("/m", value)) in ran.plan.serve
        lines = [line for line in ran.text.splitlines() if line.startswith("#SBATCH ")]
        assert lines == ran.text.splitlines()[1 : len(lines) + 1]
        options = dict(as_slurm_reads(line) for line in lines if "=" in line)
        for name in ("partition", "account", "qos", "reservation", "comment"):
            assert options[f"--{name}"] == value


def as_slurm_reads(line: str) -> tuple[str, str]:
    """Of one option: it ends at a space, and at a # that no \\ precedes (sbatch's own rule)."""
    text = re.split(r"(?<!\\)#", line.removeprefix("#SBATCH "))[0]
    assert not re.search(r"[\s'\"]", text), line
    name, _, value = text.replace("\\#", "#").partition("=")
    return name, value


@pytest.mark.parametrize("value", ["x\nexport A=1", "x\r", "x\nPLAN\ntouch {made}\n", "\x1b[2J"])
def test_no_value_may_begin_a_line_of_its_own(tmp_path: Path, value: str) -> None:
    wrong: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ({"environment": {"A": value}}, {}, {}),
        ({"modules": [value]}, {}, {}),
        ({"name": value}, {}, {}),
        ({"python": "/" + value}, {}, {}),
        ({"partition": value}, {}, {}),
        ({"domain": "." + value}, {}, {}),
        ({"sbatch_options": ["--a=" + value]}, {}, {}),
        ({"srun_options": ["--a=" + value]}, {}, {}),
        ({"container": {"image": value}}, {}, {}),
        ({"container": {"mounts": [f"/a:{value}"]}}, {}, {}),
        ({"container": {"flags": ["--a=" + value]}}, {}, {}),
        ({"container": {"environment": [value]}}, {}, {}),
        ({"container": {"squash_dir": value}}, {}, {}),
        ({}, {"name": value}, {}),
        ({}, {"results": value}, {}),
        ({}, {"nodelist": value}, {}),
        ({}, {"time": value}, {}),
        ({}, {"flags": [value]}, {}),
        ({}, {"user_conf": value}, {}),
        ({}, {"datasets": {"performance": value}}, {}),
        ({}, {"measure": [{"scenario": "offline", "flags": [value]}]}, {}),
        ({}, {"measure": [{"scenario": "offline", "name": value}]}, {}),
        ({}, {}, {"model": value}),
        ({}, {}, {"python": value}),
        ({}, {}, {"flags": [value]}),
        ({}, {}, {"engine_flags": [value]}),
        ({}, {}, {"exclude_gpus": {"n1" + value: "0"}}),
    ]
    for site, job, servers in wrong:
        with pytest.raises(ConfigError):
            read_site(site_file(tmp_path, **site))
            read_job(job_file(tmp_path, servers, **job))
            pytest.fail(f"{site} {job} {servers}: nobody minds")


def test_values_are_not_in_the_plan(tmp_path: Path) -> None:
    """Which is shown in lists of processes: containers get variables by their names."""
    for style in ("enroot", "pyxis", "docker", "podman"):
        folder = tmp_path / style
        folder.mkdir()
        site = {"container": {"style": style, "image": "x"}, "environment": {"A": "hush"}}
        ran = run(folder, site, {"container": True}, {})
        assert ran.environ["A"] == "hush" and "hush" not in ran.plan.to_json()
    assert "A" not in os.environ
