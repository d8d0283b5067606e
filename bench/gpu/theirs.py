"""The engine's own benchmark client, `vllm bench serve`: its command, and its result as our records."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.ours import SEED
from bench.gpu.watch import Watched, watch
from core.errors import RunError
from core.record import RECORD
from results.records import Records

SCRIPT = Path(__file__).with_name("their_client.py")
# The tokenizer comes from the folder. It would take a proxy from the environment; ours takes none.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "no_proxy": "*"}
# As ours asks for. By itself it would leave these to the engine, which looks into the model's
# generation_config.json, and have the end of an answer ignored, which MLPerf forbids.
SAMPLING = {
    "--temperature": 1,
    "--top-p": 1,
    "--top-k": -1,
    "--extra-body": '{"ignore_eos": false}',
}
ERRORS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class TheirLoad:
    """What is asked of the engine, as a Poisson process."""

    model: Path  # a folder with the tokenizer
    served: str  # the model's name at the engine
    qps: float
    queries: int
    isl: int  # tokens
    osl: int  # tokens, at most
    seed: int = SEED


def their_command(load: TheirLoad, url: str, python: str, result: Path) -> list[str]:
    """The command of one run, for the engine's Python; no request of it is a test or a warm-up."""
    options = {
        "--backend": "vllm",
        "--base-url": url,
        "--endpoint": "/v1/completions",
        "--model": load.model,
        "--served-model-name": load.served,
        "--dataset-name": "random",
        "--random-input-len": load.isl,
        "--random-output-len": load.osl,
        "--num-prompts": load.queries,
        "--request-rate": load.qps,
        "--seed": load.seed,
        **SAMPLING,
        "--ready-check-timeout-sec": 0,
        "--num-warmups": 0,
        "--percentile-metrics": "ttft,tpot,itl,e2el",
        "--metric-percentiles": "50,99",
        "--result-dir": result.parent,
        "--result-filename": result.name,
    }
    flags = [str(part) for option in options.items() for part in option]
    return [python, str(SCRIPT), *flags, "--disable-tqdm", "--save-result", "--save-detailed"]


def run_theirs(command: list[str], result: Path) -> tuple[Watched, Records]:
    """One run. Raises RunError when it left no result, and for requests that failed."""
    result.unlink(missing_ok=True)  # an earlier run's must not pass for this one's
    watched = watch(command, os.environ | ENVIRONMENT)
    try:
        found = json.loads(result.read_text()) if watched.returncode == 0 else None
    except (OSError, ValueError):
        found = None
    if found is None:
        complaint = watched.stderr[-2000:]
        raise RunError(f"vllm bench serve ended with {watched.returncode}: {complaint}")
    if found["failed"]:
        errors = sorted({error for error in found["errors"] if error})[:ERRORS_SHOWN]
        raise RunError(f"vllm bench serve: {found['failed']} requests failed: {errors}")
    return watched, their_records(found)


def their_records(found: Mapping[str, Any]) -> Records:
    """Its detailed result. Its clock is ours, CLOCK_MONOTONIC, in seconds; when a request was due it
    does not tell, so that is when it was sent."""
    records = np.zeros(len(found["start_times"]), RECORD)
    sent_s, ttft_s = np.array(found["start_times"]), np.array(found["ttfts"])
    decode_s = [sum(gaps) for gaps in found["itls"]]  # between the events of an answer
    records["due_ns"] = records["sent_ns"] = sent_s * 1e9
    records["first_token_ns"] = (sent_s + ttft_s) * 1e9
    records["done_ns"] = (sent_s + ttft_s + decode_s) * 1e9
    records["prompt_tokens"] = found["input_lens"]
    records["n_tokens"] = found["output_lens"]
    records["n_events"] = [1 + len(gaps) for gaps in found["itls"]]
    return records
