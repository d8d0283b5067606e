"""Real vLLM on this machine's CPU, behind HTTP and without it, with the same settings and prompts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.gpu.inproc import own_engine
from bench.gpu.served import planned, serve, start_phases
from bench.gpu.sides import Work
from bench.gpu.turns import take_turns
from bench.gpu.turns_table import table
from dataset import load_dataset
from server.process import members
from tests.harness import ROOT
from tests.replicas import CHECKPOINT, START_LIMIT_S
from tests.server.servers import free_ports
from tests.vllm_cpu import engine_environment, vllm_python

pytestmark = [pytest.mark.real_engine, pytest.mark.timeout(900)]
ENGINE_FLAGS = ("--dtype=float32", "--max-model-len=2048", "--served-model-name=tiny-gpt-oss")
ROWS, MAX_TOKENS = 12, 24
SIDES = ("ours", "own")


def write_rows(path: Path) -> Path:
    """A few of the demonstration's prompts, which the checkpoint answers in more than one token."""
    rows = load_dataset(ROOT / "dataset" / "demonstration.parquet").head(ROWS)
    ids = [rows.prompt(index) for index in range(ROWS)]
    pq.write_table(pa.table({"input_tokens": ids}), path)
    return path


def settings(log: Path) -> str:
    """All that an engine says of its configuration, which is a line."""
    return log.read_text().partition("Initializing a V1 LLM engine")[2].partition("\n")[0]


def test_both_ways_to_one_engine(tmp_path: Path) -> None:
    environ = engine_environment() | {"TORCHDYNAMO_DISABLE": "1"}  # it spares a C++ compiler
    flags = (
        *("--engine", "vllm", "--python", str(vllm_python()), "--platform", "cpu"),
        *("--model_path", str(CHECKPOINT), "--port", str(free_ports(1))),
        *("--timeout", str(START_LIMIT_S)),
    )
    told = flags, ENGINE_FLAGS, tmp_path / "server", environ
    (replica,) = planned(*told)
    log, said = tmp_path / "own.log", list[str]()
    with serve(*told) as starting, own_engine(replica, log, environ, START_LIMIT_S) as own:
        server, ready = starting.ready, own.ready
        dataset = write_rows(tmp_path / "rows.parquet")
        work = Work(dataset, ROWS, MAX_TOKENS, 1, tmp_path / "turns")
        result = take_turns(work, server.urls[0], server.logs[0], own, said.append)
        session = own.session
    assert not members(session)
    assert ready.version == "0.32.0"
    assert ready.ignored == ("host", "port")
    assert ready.max_num_seqs == 32  # of the recipe for CPUs
    assert settings(log) == settings(server.logs[0])
    assert f"'compile_ranges_endpoints': [{ready.max_num_batched_tokens}]" in settings(log)
    for phases in (*server.phases, start_phases(log)):
        assert {"weights", "engine"} <= phases.keys()
    (turn,) = result["rounds"]
    for side in (*(turn[who] for who in SIDES), *(result["warm_up"][who] for who in SIDES)):
        assert 2 * ROWS <= side["output_tokens"] <= MAX_TOKENS * ROWS
    assert turn["own"]["requests"] == result["requests"] == ROWS
    assert turn["own"]["prompt_tokens"] == round(result["isl"] * ROWS)
    assert turn["own"]["cpu_s"] > 0
    assert turn["ratio"] == turn["ours"]["tokens_per_s"] / turn["own"]["tokens_per_s"] > 0
    assert table(result | {"gpus": [0, 1]}).count("\n") == 6
