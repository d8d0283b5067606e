"""Our client and vLLM's own against the same real vLLM, on a CPU: three clocks that agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.clients import compare_clients, table
from tests.replicas import CHECKPOINT, run_server
from tests.vllm_cpu import vllm_python

pytestmark = [pytest.mark.real_engine, pytest.mark.timeout(900)]
MODEL = "tiny-gpt-oss"
FLAGS = ("--platform", "cpu", "--", "--dtype=float32", f"--served-model-name={MODEL}")
QPS, QUERIES, ISL, OSL = 5.0, 10, 32, 16


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
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Path]]:
    folder = tmp_path_factory.mktemp("clients")
    model, python = endless(folder / "model"), vllm_python()
    flags = ("--model_path", str(model), *FLAGS)
    with run_server("vllm", python, folder, *flags, TORCHDYNAMO_DISABLE="1") as started:
        lengths = (QPS, QUERIES, ISL, OSL, 1)
        runs = folder / "runs"
        yield compare_clients(started.urls[0], str(python), model, *lengths, runs, print), runs


def test_both_clients_on_three_clocks(compared: tuple[dict[str, Any], Path]) -> None:
    found, folder = compared
    assert [run["who"] for run in found["runs"]] == ["ours", "theirs"]
    for run in found["runs"]:
        assert (run["requests"], run["failures"]) == (QUERIES, 0)
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
    [result] = folder.glob("*-theirs/result.json")
    told = json.loads(result.read_text())  # what it says itself, of the same requests
    assert theirs["client"]["ttft"]["mean"] == pytest.approx(told["mean_ttft_ms"], rel=1e-3)
    assert theirs["client"]["tpot"]["mean"] == pytest.approx(told["mean_tpot_ms"], rel=1e-2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert table(found).count("\n") == 6
