"""The competition's folders: variables that are sourced, and commands that work from anywhere."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.competition.launched import clean, ran
from tests.harness import ROOT

GPTOSS, DSR1 = "gptoss-fp4-vllm-mi355x", "dsr1-fp4-sglang-mi355x"
MODELS = {GPTOSS: "openai/gpt-oss-120b", DSR1: "amd/DeepSeek-R1-0528-MXFP4-Preview"}
CONC = {GPTOSS: ("8", "80"), DSR1: ("16", "800")}  # and NUM_PROMPTS
SHELLS = [
    "bash",
    pytest.param("zsh", marks=pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")),
]
# Every name and value, options included: whatever a sourced script leaves behind.
STATE = {
    "bash": "{ compgen -v; compgen -A function; shopt -p; set +o; compgen -a; } | sort",
    "zsh": "{ print -l ${(k)parameters} ${(k)functions} ${(k)aliases}; set -o; } | sort",
}


def general(folder: str) -> dict[str, str]:
    common = {"PORT": "8888", "TP": "8", "MAX_MODEL_LEN": "16384", "RANDOM_RANGE_RATIO": "1.0"}
    return {"MODEL": MODELS[folder]} | common


def specific(folder: str) -> dict[str, str]:
    conc, prompts = CONC[folder]
    result = {"RESULT_FILENAME": f"result_isl1024_osl1024_conc{conc}"}
    lengths = {"ISL": "1024", "OSL": "1024", "CONC": conc, "NUM_PROMPTS": prompts}
    return general(folder) | lengths | result


def sourced(shell: str, cwd: Path, *lines: str) -> list[str]:
    """Lines that a shell with an empty environment prints."""
    flags = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"]}[shell]
    code = "\n".join(lines)
    done = ran(
        "env", "-i", f"PATH={clean()['PATH']}", shell, *flags, "-c", code, cwd=cwd, **clean()
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def exports(lines: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("folder", [GPTOSS, DSR1])
@pytest.mark.parametrize("name", ["all", "specific"])
def test_it_exports_these_and_leaves_nothing_else(
    tmp_path: Path, shell: str, folder: str, name: str
) -> None:
    script = ROOT / folder / f"{name}_conc_var.sh"
    before = exports(sourced(shell, tmp_path, "env"))
    after = exports(sourced(shell, tmp_path, f"source '{script}' >/dev/null", "env"))
    wanted = {"all": general, "specific": specific}[name](folder)
    assert {key: value for key, value in after.items() if before.get(key) != value} == wanted
    assert set(before) <= set(after)
    state = STATE[shell]
    quietly = f"source '{script}' >/dev/null"
    # Once for what the question itself leaves behind.
    both = sourced(shell, tmp_path, f"{state} >/dev/null; {state}; echo '=='; {quietly}; {state}")
    half = both.index("==")
    assert set(both[half + 1 :]) ^ set(both[:half]) == set(wanted)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_exported_afterwards_wins_and_sourcing_sets_all_anew(
    tmp_path: Path, shell: str
) -> None:
    script = ROOT / GPTOSS / "specific_conc_var.sh"
    lines = sourced(
        shell,
        tmp_path,
        f"export CONC=99; source '{script}' >/dev/null; echo $CONC",
        "export CONC=16 NUM_PROMPTS=160; env | grep -E '^(CONC|NUM_PROMPTS)=' | sort",
    )
    assert lines == ["8", "CONC=16", "NUM_PROMPTS=160"]


@pytest.mark.parametrize(
    ("folder", "edits", "prompts"),
    [
        (GPTOSS, {"CONC=8": "CONC=16"}, "160"),
        (DSR1, {"OSL=1024": "OSL=8192"}, "320"),
        (DSR1, {"ISL=1024": "ISL=8192", "CONC=16": "CONC=64"}, "3200"),
    ],
)
def test_it_can_be_edited(tmp_path: Path, folder: str, edits: dict[str, str], prompts: str) -> None:
    text = (ROOT / folder / "specific_conc_var.sh").read_text()
    for old, new in edits.items():
        assert f"export {old}\n" in text
        text = text.replace(f"export {old}\n", f"export {new}\n")
    (tmp_path / "specific_conc_var.sh").write_text(text)
    found = exports(sourced("bash", tmp_path, "source specific_conc_var.sh >/dev/null; env"))
    assert found["NUM_PROMPTS"] == prompts
    ending = f"isl{found['ISL']}_osl{found['OSL']}_conc{found['CONC']}"
    assert found["RESULT_FILENAME"] == f"result_{ending}"


@pytest.mark.parametrize("folder", [GPTOSS, DSR1])
@pytest.mark.parametrize("name", ["all", "specific"])
def test_it_says_values_and_next_steps(tmp_path: Path, folder: str, name: str) -> None:
    script = ROOT / folder / f"{name}_conc_var.sh"
    said = "\n".join(sourced("bash", tmp_path, f"set -eu; source '{script}'"))
    wanted = {"all": general, "specific": specific}[name](folder)
    assert all(f"{key}={value}" in said for key, value in wanted.items())
    commands = [file.name for file in (ROOT / folder).glob("launch_*_server.sh")]
    commands += [file.name for file in (ROOT / folder).glob("*_benchmark")]
    assert len(commands) == 2 and all(command in said for command in commands)
    hint = '# export TEAM_NAME_ENV="YourTeam"' in script.read_text()
    assert hint == (name == "all")


# ------------------------------------------------------------------------- the commands


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout without .venv, whose program says how it was called."""
    root = tmp_path / "a checkout"
    for part in (GPTOSS, DSR1, "competition/shell"):
        shutil.copytree(ROOT / part, root / part)
    said = "json.dumps([sys.argv[1:], os.getcwd(), sys.path[0]])"
    (root / "competition" / "__init__.py").touch()
    (root / "competition" / "__main__.py").write_text(f"import json, os, sys\nprint({said})\n")
    return root


def python_at(file: Path, code: str = "") -> Path:
    """An interpreter; code: what goes wrong in it before anything else."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'#!/bin/sh\n{code}\nexec "{sys.executable}" "$@"\n')
    file.chmod(0o755)
    return file.parent


@pytest.mark.parametrize("folder", [GPTOSS, DSR1])
def test_it_runs_where_one_stands(tmp_path: Path, copy: Path, folder: str) -> None:
    (script,) = (copy / folder).glob("*_benchmark")
    link = tmp_path / "bin" / "link"
    link.parent.mkdir()
    link.symlink_to(script)
    results = tmp_path / "results of mine"
    results.mkdir()
    for name in ("competition", "json", "numpy"):  # which would hide others
        (results / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    words = ["submit", 'Team "$(id)"; x', "-isl", "1024"]
    for command in (script, link):
        done = ran(command, *words, cwd=results, **clean())
        assert done.stderr == ""
        assert json.loads(done.stdout) == [["--profile", folder, *words], str(results), str(copy)]


def test_the_profile_can_be_chosen(tmp_path: Path, copy: Path) -> None:
    stage2 = f"{GPTOSS}-2026-03"
    script = copy / GPTOSS / "gptoss_benchmark"
    done = ran(script, "acc", cwd=tmp_path, **clean(COMPETITION_PROFILE=stage2))
    assert json.loads(done.stdout)[0] == ["--profile", stage2, "acc"]


def test_its_own_environment_comes_first(tmp_path: Path, copy: Path) -> None:
    python_at(copy / ".venv" / "bin" / "python", "echo own >&2")
    done = ran(copy / GPTOSS / "gptoss_benchmark", cwd=tmp_path, **clean())
    assert done.returncode == 0 and "own" in done.stderr


def test_one_that_lacks_libraries_is_passed_over(tmp_path: Path, copy: Path) -> None:
    broken = python_at(tmp_path / "broken" / "python3", f'exec "{sys.executable}" -S "$@"')
    python_at(tmp_path / "whole" / "python")
    path = f"{broken}:{tmp_path / 'whole'}:/usr/bin:/bin"
    done = ran(copy / GPTOSS / "gptoss_benchmark", cwd=tmp_path, **clean(PATH=path))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", [f"{GPTOSS}/gptoss_benchmark", f"{DSR1}/dsr1_benchmark"])
def test_without_any_it_names_the_remedy(tmp_path: Path, copy: Path, script: str) -> None:
    names = ["python3", "python", "python3.13", "python3.12", "python3.11"]
    for name in names:
        python_at(tmp_path / "broken" / name, "exit 1")
    path = f"{tmp_path / 'broken'}:/usr/bin:/bin"
    done = ran(copy / script, "acc", cwd=tmp_path, **clean(PATH=path))
    assert (done.returncode, done.stdout) == (3, "")
    name = script.rpartition("/")[2]
    assert f"{name}: no Python 3.11 or newer with numpy, pyarrow and orjson" in done.stderr
    assert f"{name}: remedy: cd {copy} && ./setup.sh --engine none" in done.stderr


@pytest.mark.parametrize(
    ("folder", "server", "benchmark"),
    [
        (GPTOSS, "launch_vllm_server.sh", "./gptoss_benchmark"),
        (DSR1, "launch_sglang_server.sh", "./dsr1_benchmark"),
    ],
)
def test_the_guides_lines_work_as_they_stand(
    tmp_path: Path, folder: str, server: str, benchmark: str
) -> None:
    lines = sourced(
        "bash",
        tmp_path,
        f"set -e; cd '{ROOT / folder}'",
        "source all_conc_var.sh; source specific_conc_var.sh; export CONC=16",
        f"bash {server} --dry-run --platform rocm --engine-version 0.10.1",
        f'{benchmark} submit "YourTeam" -isl 1024 -osl 1024 --help',
    )
    said = "\n".join(lines)
    assert f"model={MODELS[folder]}" in said or f"model-path={MODELS[folder]}" in said
    assert "--tensor-parallel-size=8" in said and "usage:" in said
