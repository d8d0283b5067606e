"""The competition's server: what is started, on which machine, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from competition.launch.sizes import parse_sizes
from core.errors import ConfigError
from tests.competition.launched import SGLANG, VLLM, clean, dry_run, ran
from tests.vllm_cpu import engine_environment, vllm_python

ROCM = ("--platform", "rocm", "--engine-version")
EVEN = list(range(2, 129, 2))


def config(shown: str) -> dict[str, Any]:
    """The compilation settings in a dry run's configuration file."""
    found = re.search(r"^compilation-config: '(.*)'$", shown, re.M)
    assert found
    settings: dict[str, Any] = json.loads(found[1])
    return settings


def words(shown: str) -> list[str]:
    """The command of a dry run."""
    command = shown[shown.index("\nenv ") :]
    return command.replace("\\\n", " ").split(" 2>&1 | tee")[0].split()


def test_vllm_0_10_gets_every_flag_that_the_original_lost(tmp_path: Path) -> None:
    shown = dry_run(VLLM, tmp_path, *ROCM, "0.10.1")
    assert words(shown) == [
        "env",
        "VLLM_USE_AITER_UNIFIED_ATTENTION=1",
        "VLLM_ROCM_USE_AITER_MHA=0",
        "VLLM_ROCM_USE_AITER_FUSED_MOE_A16W4=1",
        "PYTHONUNBUFFERED=1",
        *("python3", "-m", "vllm.entrypoints.openai.api_server", "--model=openai/gpt-oss-120b"),
        *("--host=0.0.0.0", "--port=8888", "--config", "/tmp/vllm-config.yaml"),
        *("--tensor-parallel-size=8", "--max-model-len=16384", "--gpu-memory-utilization=0.95"),
        *("--block-size=64", "--no-enable-prefix-caching", "--disable-log-requests"),
        "--async-scheduling",
    ]
    assert config(shown) == {
        "compile_sizes": [1, *EVEN, 256, 512, 1024, 2048, 8192],
        "cudagraph_capture_sizes": [1, *EVEN, *range(136, 1025, 8), 2048, 4096, 8192],
        "cudagraph_mode": "FULL_AND_PIECEWISE",
    }
    assert re.search(r"tee /tmp/vllm-server-\w{6}\.log$", shown)


@pytest.mark.parametrize(
    ("version", "present", "absent"),
    [
        ("0.12.1.dev7+g1f5b378dc", "VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION=1", "ROCM_AITER_UNI"),
        ("0.32.0", "--attention-backend=ROCM_AITER_UNIFIED_ATTN", "USE_AITER_MOE=0"),
        ("0.23.1", "VLLM_ROCM_USE_AITER_MOE=0", "VLLM_USE_AITER"),
    ],
)
def test_a_newer_vllm_gets_its_own_names(
    tmp_path: Path, version: str, present: str, absent: str
) -> None:
    shown = dry_run(VLLM, tmp_path, *ROCM, version)
    assert present in words(shown) and absent not in shown
    assert "--no-enable-log-requests" in shown and "--disable-log-requests" not in shown
    assert "VLLM_USE_AITER_UNIFIED_ATTENTION" not in shown


def test_compilation_flags_go_into_the_file_where_they_take_effect(tmp_path: Path) -> None:
    shown = dry_run(VLLM, tmp_path, *ROCM, "0.32.0", "--", "-cc.pass_config.fuse_x=false")
    assert config(shown)["pass_config"] == {"fuse_rope_kvcache": True, "fuse_x": False}
    assert config(shown)["use_inductor_graph_partition"] is True
    assert not [word for word in words(shown) if word.startswith("-cc")]
    whole = dry_run(VLLM, tmp_path, *ROCM, "0.32.0", "--", "--compilation-config={}")
    assert "# note: --compilation-config={} replaces all compilation settings of ours" in whole


@pytest.mark.parametrize("version", ["0.10.1", "0.32.0"])
def test_on_nvidia_nothing_of_amd_is_left(tmp_path: Path, version: str) -> None:
    shown = dry_run(VLLM, tmp_path, "--platform", "cuda", "--engine-version", version)
    assert not re.search("ROCM|AITER|AMD|--block-size", "\n".join(words(shown)))
    assert set(config(shown)) == {"compile_sizes", "cudagraph_capture_sizes", "cudagraph_mode"}
    assert "--no-enable-prefix-caching" in words(shown)


def test_on_a_cpu_nothing_is_compiled(tmp_path: Path) -> None:
    shown = dry_run(VLLM, tmp_path, "--platform", "cpu", "--engine-version", "0.32.0", TP="1")
    assert "--config" not in words(shown) and "--enforce-eager" in words(shown)


def test_what_the_user_says_wins(tmp_path: Path) -> None:
    given = {"GPU_MEMORY_UTIL": "0.8", "BLOCK_SIZE": "16", "MAX_MODEL_LEN": "9300", "PORT": "9000"}
    given |= {"COMPILE_SIZES": "1,8", "CUDAGRAPH_CAPTURE_SIZES": "1-4,8-32:8"}
    given |= {"VLLM_ROCM_USE_AITER_MHA": "1", "SERVER_LOG": str(tmp_path / "x.log")}
    shown = dry_run(
        VLLM, tmp_path, *ROCM, "0.10.1", "--", "--enable-prefix-caching", "--seed", "3", **given
    )
    assert words(shown)[-3:] == ["--enable-prefix-caching", "--seed", "3"]
    assert {"--gpu-memory-utilization=0.8", "--block-size=16", "--port=9000"} < set(words(shown))
    assert "--no-enable-prefix-caching" not in shown and "0.95" not in shown
    assert config(shown)["compile_sizes"] == [1, 8]
    assert config(shown)["cudagraph_capture_sizes"] == [1, 2, 3, 4, 8, 16, 24, 32]
    assert "# note: VLLM_ROCM_USE_AITER_MHA=1 of your environment is kept (recipe: 0)" in shown
    assert "VLLM_ROCM_USE_AITER_MHA=0" not in shown and f"tee {tmp_path}/x.log" in shown


UNDERSTOOD = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
found = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])
settings = found.compilation_config
names = ("block_size", "enable_prefix_caching", "enable_log_requests", "async_scheduling")
answer = {name: getattr(found, name) for name in names}
answer["sizes"] = [len(settings.compile_sizes), len(settings.cudagraph_capture_sizes)]
answer["graph_partition"] = settings.use_inductor_graph_partition
print(json.dumps(answer))
"""


@pytest.mark.real_engine
@pytest.mark.timeout(300)  # importing vLLM takes 20 seconds on an idle machine
def test_vllm_itself_understands_all_of_it(tmp_path: Path) -> None:
    shown = dry_run(VLLM, tmp_path, *ROCM, "0.32.0")
    command = words(shown)[words(shown).index("--model=openai/gpt-oss-120b") :]
    file = tmp_path / "c.yaml"
    file.write_text(shown.split("<<'END'\n")[1].split("END\n")[0])
    command[command.index("--config") + 1] = str(file)
    done = ran(vllm_python(), "-c", UNDERSTOOD, *command, cwd=tmp_path, **engine_environment())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "block_size": 64,
        "enable_prefix_caching": False,
        "enable_log_requests": False,
        "async_scheduling": True,
        "sizes": [70, 180],
        "graph_partition": True,
    }


def test_sizes_follow_the_largest_batch(tmp_path: Path) -> None:
    shown = dry_run(VLLM, tmp_path, *ROCM, "0.32.0", "--", "--max-num-batched-tokens", "1000")
    assert config(shown)["compile_sizes"][-1] == 512
    assert config(shown)["cudagraph_capture_sizes"][-1] == 1000


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0,1", "0 is no range of positive sizes"),
        ("1,4,2", "2 is out of order"),
        ("1,1", "1 is out of order or twice there"),
        ("1,,2", "'' is no size"),
        ("8-4", "8-4 is no range"),
        ("1-4:0", "1-4:0 is no range"),
        ("1;touch x", "is no size"),
        ("1,8193", "8193 is above the 8192 tokens"),
        ("1-99999999999999", "above the 8192 tokens"),
    ],
)
def test_wrong_sizes_are_refused(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(fault)):
        parse_sizes("COMPILE_SIZES", text, 8192)


def test_an_unknown_variable_is_told(tmp_path: Path) -> None:
    given = {"VLLM_USE_AITER_UNIFIED_ATTENTION": "1"}
    shown = dry_run(VLLM, tmp_path, *ROCM, "0.32.0", **given)
    assert "# WARNING: vllm 0.32.0 does not know VLLM_USE_AITER_UNIFIED_ATTENTION" in shown
    assert "instead: VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION" in shown
    assert "WARNING" not in dry_run(VLLM, tmp_path, *ROCM, "0.10.1", **given)


@pytest.mark.parametrize(
    ("conc", "lengths", "tokens"),
    [("64", ("8192", "1024"), 32768), ("32", ("8192", "1024"), 196608), ("64", ("1", "1"), 196608)],
)
def test_sglang_for_deepseek(
    tmp_path: Path, conc: str, lengths: tuple[str, str], tokens: int
) -> None:
    given = {"CONC": conc, "ISL": lengths[0], "OSL": lengths[1], "MODEL": "deepseek"}
    shown = dry_run(SGLANG, tmp_path, *ROCM, "0.5.5", **given)
    assert words(shown)[1:] == [
        *("SGLANG_USE_AITER=1", "PYTHONUNBUFFERED=1", "python3", "-m", "sglang.launch_server"),
        *("--model-path=deepseek", "--host=0.0.0.0", "--port=8888", "--tensor-parallel-size=8"),
        *("--context-length=16384", f"--chunked-prefill-size={tokens}"),
        *(f"--max-prefill-tokens={tokens}", "--trust-remote-code", "--mem-fraction-static=0.8"),
        *("--num-continuous-decode-steps=4", "--cuda-graph-max-bs=128", "--disable-radix-cache"),
        "--enable-metrics",
    ]
    assert re.search(r"tee /tmp/sglang-server-\w{6}\.log$", shown)
    other = dry_run(SGLANG, tmp_path, "--platform", "cuda", "--engine-version", "0.5.5", **given)
    assert "AITER" not in other
    for platform in ("cuda", "cpu"):
        shown = dry_run(SGLANG, tmp_path, "--platform", platform, "--engine-version", "0.5.5")
        assert "--enable-metrics" in words(shown)


@pytest.mark.parametrize(
    ("environ", "flags", "code", "fault"),
    [
        ({}, (), 1, "MODEL and TP not set in this shell; first: source gptoss-fp4-vllm-mi355x/spe"),
        ({"TP": ""}, (), 1, "MODEL and TP not set"),
        ({"MODEL": "m"}, (), 1, "TP not set"),
        ({"MODEL": "m", "TP": "x"}, (), 2, "TP=x: not a positive whole number"),
        ({"MODEL": "m", "TP": "1", "PORT": "99999"}, (), 2, "PORT=99999: above 65535"),
        ({"MODEL": "m", "TP": "1", "GPU_MEMORY_UTIL": "95"}, (), 2, "GPU_MEMORY_UTIL=95: not a"),
        ({"MODEL": "m", "TP": "1", "SERVER_LOG": "/dev/null"}, (), 2, "not a plain file"),
        ({"MODEL": "m", "TP": "1"}, ("--", "--port=1"), 2, "--port=1 after --: the launcher"),
        ({"MODEL": "m", "TP": "9", "ROCR_VISIBLE_DEVICES": "0,1"}, (), 2, "gives 2 GPUs"),
    ],
)
def test_what_cannot_work_is_refused(
    tmp_path: Path, environ: dict[str, str], flags: tuple[str, ...], code: int, fault: str
) -> None:
    own = ("--dry-run", *ROCM, "0.32.0", *flags)
    done = ran("bash", VLLM, *own, cwd=tmp_path, **clean(**environ))
    assert (done.returncode, done.stdout) == (code, "") and fault in done.stderr


def test_a_token_is_never_shown_and_the_standard_library_is_enough(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # no site-packages
    python.chmod(0o755)
    given = {"HF_TOKEN": "hf_secret", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    shown = dry_run(VLLM, tmp_path, *ROCM, "0.32.0", **given)
    assert "hf_secret" not in shown and "--port=8888" in shown
