"""Installing and rebuilding vLLM: the steps in their order, and what is found wrong afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.competition.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def python(stage: Stage, **faults: str) -> None:
    """python3: pip warns as it does, and says what is installed as `faults` will have it."""
    said = {
        "vllm": f"{stage.workspace}/vllm/vllm/__init__.py",
        "numpy": "1.26.4",
        "aiter": f"aiter 0.1.7.post3.dev39+g1f5b378dc {stage.workspace}/aiter",
        "fails": "never",
    } | faults
    stage.program(
        "python3",
        f"""case "$*" in
*"{said["fails"]}"*) exit 9 ;;
*"import vllm"*) echo "{said["vllm"]}" ;;
*"import numpy"*) echo "{said["numpy"]}" ;;
"-m pip list") echo "{said["aiter"]}" ;;
*rocm.txt*) echo "ERROR: pip's dependency resolver does not currently take into account" >&2 ;;
"setup.py develop") echo "in $PWD for ${{PYTORCH_ROCM_ARCH:-}}" ;;
esac""",
    )


def test_vllm_is_installed_in_the_guides_order(stage: Stage) -> None:
    python(stage)
    done = stage.run("install_vllm.sh", "--workspace", str(stage.workspace))
    assert done.returncode == 0, done.stderr
    steps = [" ".join(call[1:]) for call in stage.called()][:7]
    assert steps == [
        "-m pip uninstall -y aiter amd-aiter vllm",
        "setup.py develop",
        "-m pip install --upgrade pip",
        "-m pip install --upgrade numba scipy huggingface-hub[cli,hf_transfer] setuptools_scm",
        "-m pip install numpy<2",
        "-m pip install -r requirements/rocm.txt",
        "setup.py develop",
    ]
    assert f"in {stage.workspace}/aiter for \n" in done.stdout
    assert f"in {stage.workspace}/vllm for gfx942;gfx950" in done.stdout
    assert "dependency resolver" in done.stderr  # and it went on
    assert done.stdout.splitlines()[-2:][0] == "numpy: 1.26.4"


@pytest.mark.parametrize(
    ("faults", "code", "fault"),
    [
        ({"fails": "rocm.txt"}, 9, ""),
        ({"vllm": "/usr/lib/vllm/__init__.py"}, 3, "vllm is /usr/lib/vllm/__init__.py, not"),
        ({"numpy": "2.2.1"}, 3, "numpy is 2.2.1"),
        ({"aiter": "none"}, 3, "pip lists no aiter"),
        ({"aiter": "aiter 0.1 /elsewhere"}, 3, "not editable, or of another folder"),
    ],
)
def test_an_installation_that_failed_is_told(
    stage: Stage, faults: dict[str, str], code: int, fault: str
) -> None:
    python(stage, **faults)
    done = stage.run("install_vllm.sh", "--workspace", str(stage.workspace))
    assert done.returncode == code and fault in done.stderr
    assert code == 3 or stage.called()[-1][-1] == "requirements/rocm.txt"  # the last step


@pytest.mark.parametrize("full", [False, True])
def test_vllm_is_rebuilt(stage: Stage, full: bool) -> None:
    stage.program("python3", 'echo "$* for ${VLLM_TARGET_DEVICE:-} $PYTORCH_ROCM_ARCH"')
    vllm = stage.workspace / "vllm"
    for name in ("build", "vllm.egg-info"):
        (vllm / name).mkdir()
    flags = ["--vllm", str(vllm), *(["--full"] if full else [])]
    done = stage.run("rebuild_vllm.sh", *flags, PYTORCH_ROCM_ARCH="gfx950")
    assert done.returncode == 0 and "Python need no rebuild" in done.stderr
    assert not (vllm / "build").exists() and (vllm / "vllm.egg-info").exists() != full
    steps = [" ".join(call[1:]) for call in stage.called()]
    clean = ["setup.py clean"] if full else []
    assert steps == ["-m pip uninstall -y vllm", *clean, "setup.py develop"]
    assert "setup.py develop for rocm gfx950" in done.stdout


def test_another_folder_is_not_touched(stage: Stage) -> None:
    (stage.workspace / "build").mkdir()
    done = stage.run("rebuild_vllm.sh", "--vllm", str(stage.workspace))
    assert done.returncode == 3 and (stage.workspace / "build").exists()
