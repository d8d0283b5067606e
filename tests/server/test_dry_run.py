"""--dry-run: exactly what would be started, for machines that are not here.

After a wanted change, `python -m tests.server.test_dry_run` writes the golden files anew; read the
difference.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from server.__main__ import main
from tests.harness import ROOT
from tests.server.servers import environ

GOLDEN = ROOT / "tests" / "golden" / "servers"
MACHINES = {
    "mi355x": ["--platform", "rocm", "--gpu", "AMD Instinct MI355X"],
    "h200": ["--platform", "cuda", "--gpu", "NVIDIA H200"],
    "cpu": ["--platform", "cpu"],
}
VERSIONS = {"vllm": "0.32.0", "sglang": "0.5.21"}
SEEN = {"mi355x": {"ROCR_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, "h200": {}, "cpu": {}}
CASES = [f"{name}-{engine}-dp{dp}" for name in MACHINES for engine in VERSIONS for dp in (1, 8, 7)]


def dry_run(*flags: str, **environ: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr; on a machine with 16 cores and 8 GPUs at most."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
        mock.patch.object(os, "sched_getaffinity", lambda _: set(range(16))),
    ):
        code = main(["--dry-run", "--cache-dir", "/cache", *flags], environ)
    return code, out.getvalue(), errors.getvalue()


def flags_of(case: str) -> list[str]:
    name, engine, dp = case.split("-")
    flags = [*MACHINES[name], "--engine", engine, "--engine-version", VERSIONS[engine]]
    if dp == "dp7" and name != "cpu":
        return [*flags, "--exclude-gpus", "3"]
    return [*flags, "--dp", dp.removeprefix("dp")]


def rendered(case: str) -> str:
    code, out, errors = dry_run(*flags_of(case), **SEEN[case.split("-")[0]])
    assert (code, errors) == (0, "")
    return out


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    assert rendered(case) == (GOLDEN / f"{case}.txt").read_text()


def test_every_golden_file_is_a_case() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(CASES)


def test_what_is_printed_is_a_script_that_the_shell_reads(tmp_path: Path) -> None:
    """The printed command, run by bash with a program in the engine's place, arrives as meant."""
    python = tmp_path / "a python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$CUDA_VISIBLE_DEVICES" "$HF_TOKEN" "$@"\n')
    python.chmod(0o755)
    flags = [*flags_of("h200-vllm-dp1"), "--python", str(python), "--log-dir", str(tmp_path)]
    script = dry_run(*flags, "--model_path", "/m/it's $HOME", "--eagle_path", "e")[1] + "wait\n"
    subprocess.run(["bash", "-eu", "-c", script], check=True, env={"HF_TOKEN": "kept"}, timeout=30)
    lines = (tmp_path / "replica-0.log").read_text().splitlines()
    assert lines[:2] == ["0", "kept"] and "--model=/m/it's $HOME" in lines
    draft = '{"method":"eagle3","model":"e","num_speculative_tokens":3}'
    assert f"--speculative-config={draft}" in lines


def commands(*flags: str, **environ: str) -> list[list[str]]:
    """Each server's words after `env`."""
    code, out, errors = dry_run(*flags, **environ)
    assert code == 0, errors
    blocks = [block for block in out.split("\n\n") if "\nenv" in block]
    return [shlex.split(block, comments=True)[1:] for block in blocks]


def test_the_policy_of_interactive() -> None:
    (words,) = commands(*flags_of("h200-sglang-dp1"), "--enable_speculative_decode")
    for flag in (
        "--speculative-algorithm=EAGLE3",
        "--speculative-num-steps=3",
        "--speculative-eagle-topk=1",
        "--speculative-num-draft-tokens=4",
        "--speculative-draft-model-path=nvidia/gpt-oss-120b-Eagle3-long-context",
    ):
        assert flag in words


def test_the_command_line_and_the_environment_win_over_the_recipe() -> None:
    flags = [*flags_of("mi355x-vllm-dp1"), "--stream-interval", "7", "--", "--block_size", "128"]
    flags += ["--enable-prefix-caching"]
    (words,) = commands(*flags, VLLM_ROCM_USE_AITER="0")
    assert "--stream-interval=7" in words and "--stream-interval=20" not in words
    assert not any(word.startswith(("--block-size", "--no-enable-prefix")) for word in words)
    assert not any(word.startswith("VLLM_ROCM_USE_AITER=") for word in words)
    assert (
        "VLLM_ROCM_USE_AITER=0 of your environment is kept"
        in dry_run(*flags, VLLM_ROCM_USE_AITER="0")[1]
    )


def test_internal_data_parallel_is_one_sglang_server_over_all_gpus() -> None:
    flags = [*flags_of("mi355x-sglang-dp8"), "--dp-mode", "internal"]
    (words,) = commands(*flags)
    assert "--dp-size=8" in words and "HIP_VISIBLE_DEVICES=0,1,2,3,4,5,6,7" in words
    assert "--max-running-requests=4096" in words


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        (["--dp-mode", "internal"], {}, "lockstep"),
        (["--dp", "9", "--gpus", "0-7"], {}, "9 replicas wanted, 8 GPUs to use"),
        (["--dp", "3"], {"CUDA_VISIBLE_DEVICES": "4,5"}, "3 replicas wanted, 2 GPUs to use"),
        (["--gpus", "2"], {"CUDA_VISIBLE_DEVICES": "4,5"}, "counted from 0 to 1"),
        (["--dp", "1"], {"CUDA_VISIBLE_DEVICES": ""}, "0 GPUs to use"),
        (["--", "--port", "1"], {}, "--port after --"),
        (["--", "--tensor_parallel_size=2"], {}, "one GPU"),
        (["--", "-dp", "2"], {}, "give --dp before --"),
    ],
)
def test_what_cannot_be(flags: list[str], environ: dict[str, str], said: str) -> None:
    base = [*MACHINES["h200"], "--engine", "vllm", "--engine-version", "0.32.0"]
    code, out, errors = dry_run(*base, *flags, **environ)
    assert (code, out) == (2, "") and said in errors


def test_a_variable_that_this_version_lost_is_reported() -> None:
    flags = [*MACHINES["h200"], "--engine", "vllm", "--engine-version"]
    lost = (
        "# WARNING: vllm 0.32.0 does not know VLLM_MXFP4_USE_MARLIN; instead: --moe-backend=marlin"
    )
    assert lost in dry_run(*flags, "0.32.0", VLLM_MXFP4_USE_MARLIN="1")[1]
    assert "WARNING" not in dry_run(*flags, "0.12.0", VLLM_MXFP4_USE_MARLIN="1")[1]


def test_the_real_command_from_another_folder(tmp_path: Path) -> None:
    """A module of the folder one stands in hides no library; nothing is written."""
    (tmp_path / "json.py").write_text("raise SystemExit('hidden')")
    command = [str(ROOT / "run_server.sh"), "--dry-run", *flags_of("h200-vllm-dp1")]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=30, env=environ(), check=True
    )
    assert "--port=30000" in done.stdout and "GPU 0" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["json.py"]


def test_help_names_the_reference_flags() -> None:
    command = [str(ROOT / "run_server.sh"), "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    for flag in ("--model_path", "--dp", "--stream_interval", "--eagle_path", "--dry-run"):
        assert flag in answer.stdout


def test_without_a_python_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    copy = tmp_path / "run_server.sh"
    copy.write_text((ROOT / "run_server.sh").read_text())
    (tmp_path / "bin").mkdir()
    for tool in ("readlink", "dirname"):
        (tmp_path / "bin" / tool).symlink_to(Path("/usr/bin") / tool)
    path = {"PATH": f"{tmp_path}:{tmp_path / 'bin'}"}
    answer = subprocess.run(
        ["/bin/bash", str(copy)], capture_output=True, text=True, env=path, timeout=30
    )
    assert answer.returncode == 3 and "--python PATH" in answer.stderr


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for each in CASES:
        (GOLDEN / f"{each}.txt").write_text(rendered(each))
    sys.stdout.write(f"{len(CASES)} files in {GOLDEN}\n")
