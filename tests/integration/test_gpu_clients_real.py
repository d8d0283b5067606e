"""`python -m bench.gpu` on a real vLLM, on a CPU: our client beside the engine's own, three clocks
that agree, and a perplexity."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.clients_table import table
from tests.harness import ROOT
from tests.replicas import CHECKPOINT, START_LIMIT_S
from tests.server.servers import free_ports
from tests.vllm_cpu import engine_environment, vllm_python

pytestmark = [pytest.mark.real_engine, pytest.mark.timeout(900)]
QPS, SECONDS, ISL, OSL = 5, 2, 32, 16
QUERIES = QPS * SECONDS
SIZES = {
    **{"--isl": ISL, "--osl": 2 * OSL, "--qps": QPS, "--seconds": SECONDS, "--rounds": 1},
    **{"--warmup": 4, "--warmup-tokens": 32},
}
TEXT = "Seven ships sailed south.\n\nNone of them had a captain, and all of them came home.\n"


def endless(folder: Path) -> Path:
    """The trained checkpoint with another end of an answer, one that it never says: what it says to
    random prompts has all the tokens that were asked for."""
    shutil.copytree(CHECKPOINT, folder)
    token = json.loads((folder / "tokenizer_config.json").read_text())["bos_token"]
    number = json.loads((folder / "config.json").read_text())["bos_token_id"]
    ends = {
        "config.json": {"eos_token_id": number},
        "generation_config.json": {"eos_token_id": number},
        "tokenizer_config.json": {"eos_token": token},
    }
    for name, end in ends.items():
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | end))
    return folder


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the bench left."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "text").write_text(TEXT)
    flags = ["--platform", "cpu", "--python", str(vllm_python()), "--steps", "clients,perplexity"]
    flags += ["--model_path", str(endless(folder / "model")), "--output", str(folder / "out")]
    flags += ["--port", str(free_ports())]
    flags += ["--text", str(folder / "text"), "--timeout", str(START_LIMIT_S)]
    flags += [word for name, value in SIZES.items() for word in (name, str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", *flags, "--", "--dtype=float32"],
        cwd=ROOT,
        env=engine_environment() | {"TORCHDYNAMO_DISABLE": "1"},  # it spares a C++ compiler
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def result(visit: Path, step: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((visit / f"{step}.json").read_text())["result"]
    return found


def test_perplexity(visit: Path) -> None:
    found = result(visit, "perplexity")
    assert found["n_tokens"] > 10 and found["word_perplexity"] > 1
    assert found["tokens_per_s"] == found["n_tokens"] / found["seconds"] > 0


def test_both_clients_on_three_clocks(visit: Path) -> None:
    found = result(visit, "clients")
    assert [run["who"] for run in found["runs"]] == ["ours", "theirs"]
    for run in found["runs"]:
        assert (run["failure"], run["requests"]) == (None, QUERIES)
        assert run["output_tokens"] == QUERIES * OSL
        assert run["input_tokens"] == pytest.approx(QUERIES * ISL, rel=0.1)  # theirs goes by text
        engine, client = run["engine"], run["client"]
        counts = {name: histogram["count"] for name, histogram in engine.items()}
        assert counts.pop("itl") == QUERIES * (OSL - 1)
        assert counts == dict.fromkeys(("ttft", "tpot", "e2e"), QUERIES)
        assert 0 < engine["ttft"]["mean"] <= client["ttft"]["mean"]
        assert client["tpot"]["mean"] > 0
        assert run["cpu_ms_per_request"] > 0
    ours, theirs = found["runs"]
    assert ours["client"]["ttft"]["mean"] <= ours["from_due"]["ttft"]["mean"]
    [file] = visit.glob("clients/*-theirs/result.json")
    told = json.loads(file.read_text())  # what it says itself, of the same requests
    assert theirs["client"]["ttft"]["mean"] == pytest.approx(told["mean_ttft_ms"], rel=1e-3)
    assert theirs["client"]["tpot"]["mean"] == pytest.approx(told["mean_tpot_ms"], rel=1e-2)
    assert table(found).count("\n") == 6
