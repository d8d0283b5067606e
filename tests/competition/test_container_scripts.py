"""The scripts around the container: its flags, the folder that it shows, and their --help."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.competition.launched import clean, ran
from tests.competition.stage import FOLDER, Stage
from tests.harness import ROOT

IMAGE = "rocm/7.0:rocm7.0_ubuntu_22.04_vllm_0.10.1_instinct_20250927_rc1"
TOKEN = "hf_secret"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def guide_flags(workdir: Path, name: str, cache: str, image: str) -> list[str]:
    """The guide's docker run, in its order; the repository's mount, as it lies elsewhere."""
    text = f"""run -it --name {name} --ipc=host --shm-size=16g --network=host
        --privileged --cap-add=CAP_SYS_ADMIN --device=/dev/kfd --device=/dev/dri --device=/dev/mem
        --cap-add=SYS_PTRACE --security-opt seccomp=unconfined
        -v {cache}:/root/.cache/huggingface -v {workdir}:/workspace
        -v {workdir}/aiter:/workspace/aiter -v {workdir}/vllm:/workspace/vllm
        -v {ROOT}:/workspace/amdgpu_inferencemax_bounty -e HF_TOKEN {image} /bin/bash"""
    return text.split()


def test_the_container_gets_the_guides_flags(stage: Stage) -> None:
    stage.program("docker", 'echo "${HF_TOKEN:+token arrived}"')
    done = stage.run("launch_container.sh", "--workdir", str(stage.workspace), HF_TOKEN=TOKEN)
    assert done.returncode == 0 and "token arrived" in done.stdout
    flags = guide_flags(stage.workspace, "vllm-dev", "/nfsdata/hf_hub_cache-1/", IMAGE)
    assert stage.called() == [["docker", *flags]]
    assert TOKEN not in done.stdout + done.stderr + stage.calls.read_text()


def test_all_of_it_can_be_chosen_and_shown(stage: Stage) -> None:
    stage.program("podman")
    cache = stage.workspace / "aiter"
    flags = ["--engine", "podman", "--name", "mine", "--image", "i", "--hf-cache", str(cache)]
    flags += ["--workdir", str(stage.workspace), "--dry-run"]
    done = stage.run("launch_container.sh", *flags, HF_TOKEN=TOKEN)
    assert (done.returncode, done.stderr, stage.called()) == (0, "", [])
    wanted = guide_flags(stage.workspace, "mine", str(cache), "i")
    wanted.remove("--shm-size=16g")  # podman refuses it beside --ipc=host
    assert shlex.split(done.stdout) == ["+", "podman", *wanted]


def test_the_repository_is_not_mounted_twice(stage: Stage, tmp_path: Path) -> None:
    """Where it lies as the guide has it."""
    bounty = stage.workspace / "amdgpu_inferencemax_bounty"
    for part in ("gptoss-fp4-vllm-mi355x", "competition"):
        (bounty / part).mkdir(parents=True)
    (bounty / "competition" / "shell").symlink_to(ROOT / "competition" / "shell")
    script = bounty / "gptoss-fp4-vllm-mi355x" / "launch_container.sh"
    script.write_text((FOLDER / "launch_container.sh").read_text())
    done = ran("bash", script, "--dry-run", "--workdir", stage.workspace, cwd=tmp_path, **clean())
    assert done.returncode == 0 and "amdgpu_inferencemax_bounty" not in done.stdout


def test_without_docker_it_is_refused(stage: Stage) -> None:
    done = stage.run("launch_container.sh", "--workdir", str(stage.workspace), HF_TOKEN=TOKEN)
    assert done.returncode == 3
    assert "docker is not on PATH" in done.stderr and "podman" in done.stderr


def test_an_empty_folder_is_not_mounted(stage: Stage) -> None:
    stage.program("docker")
    done = stage.run("launch_container.sh", HF_TOKEN=TOKEN)
    assert (done.returncode, stage.called()) == (3, [])
    assert "competition/vllm is not there" in done.stderr
    assert "prepare_workdir.sh" in done.stderr


def test_a_missing_token_is_a_warning(stage: Stage) -> None:
    stage.program("docker")
    done = stage.run("launch_container.sh", "--workdir", str(stage.workspace))
    assert done.returncode == 0 and "WARNING: HF_TOKEN is not set" in done.stderr


GIT = """case $1 in
clone) mkdir -p "${@: -1}/.git" ;;
-C) echo 1f5b378 2025-12-04 subject ;;
esac"""


def test_the_folder_is_prepared_once(stage: Stage) -> None:
    stage.program("git", GIT)
    done = stage.run("prepare_workdir.sh")
    work = stage.home / "competition"
    vllm, aiter = "https://github.com/vllm-project/vllm.git", "https://github.com/ROCm/aiter.git"
    assert done.returncode == 0
    assert stage.called()[:2] == [
        ["git", "clone", vllm, f"{work}/vllm.part"],
        ["git", "clone", "--recursive", aiter, f"{work}/aiter.part"],
    ]
    assert f"{work}/vllm: 1f5b378 2025-12-04 subject" in done.stdout
    stage.calls.unlink()
    assert stage.run("prepare_workdir.sh").returncode == 0
    assert not [call for call in stage.called() if "clone" in call]


def test_an_interrupted_clone_is_begun_again(stage: Stage, tmp_path: Path) -> None:
    stage.program("git", f'{GIT}\n[[ $1 != clone || "$*" != *aiter* ]] || exit 128')
    assert stage.run("prepare_workdir.sh", str(tmp_path / "w")).returncode == 128
    assert not (tmp_path / "w" / "aiter").exists()
    stage.program("git", GIT)
    assert stage.run("prepare_workdir.sh", str(tmp_path / "w")).returncode == 0
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["aiter", "vllm"]


def test_what_is_no_clone_is_left_alone(stage: Stage) -> None:
    stage.program("git", GIT)
    done = stage.run("prepare_workdir.sh", str(stage.workspace))
    assert (done.returncode, stage.called()) == (3, [])
    assert "vllm is there and no git clone" in done.stderr


@pytest.mark.parametrize("name", ["prepare_workdir", "install_vllm", "rebuild_vllm"])
def test_a_dry_run_does_nothing(stage: Stage, name: str) -> None:
    stage.program("python3")
    stage.program("git")
    done = stage.run(f"{name}.sh", "--dry-run")
    assert (done.returncode, stage.called()) == (0, [])
    assert done.stdout.startswith("+ ") and not stage.home.exists()


@pytest.mark.parametrize(
    "name", ["prepare_workdir", "launch_container", "install_vllm", "rebuild_vllm"]
)
def test_help_and_wrong_flags(stage: Stage, name: str) -> None:
    shown = stage.run(f"{name}.sh", "--help")
    assert shown.returncode == 0 and "--dry-run" in shown.stdout and "Exit codes" in shown.stdout
    wrong = stage.run(f"{name}.sh", "--nope")
    assert wrong.returncode == 2 and "--nope: unknown" in wrong.stderr
