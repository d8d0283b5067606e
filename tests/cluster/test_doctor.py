"""The command as it is called, also by a Python that has nothing installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def doctor(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-m", "cluster", "doctor", *flags],  # -S: no site-packages
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_bare_python_examines_this_machine(tmp_path: Path) -> None:
    run = doctor("--json", "--output-dir", str(tmp_path), HF_TOKEN="never-shown", VLLM_USE_V1="1")
    found = json.loads(run.stdout)
    assert run.returncode == found["exit_code"] == (1 if found["counts"]["FAIL"] else 0)
    assert "never-shown" not in run.stdout + run.stderr
    assert found["facts"]["env"]["VLLM_USE_V1"] == "1"
    assert {"CPU", "memory", "kernel", "output"} <= {
        finding["what"] for finding in found["findings"]
    }


def test_a_fault_is_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = doctor("--output-dir", str(tmp_path / "file"))
    assert run.returncode == 1
    assert "FAIL output" in run.stdout


def test_wrong_arguments() -> None:
    assert doctor("--ports", "x").returncode == 2
    assert "30000-30007" in doctor("--ports", "70000").stderr
    run = subprocess.run(
        [sys.executable, "-m", "cluster"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2 and "doctor" in run.stderr
