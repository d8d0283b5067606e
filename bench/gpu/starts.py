"""How the bench's engines are started and warmed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backends.engines import probe
from backends.warmup import warm_up
from bench.gpu.options import Options
from bench.gpu.ours import SEED, Found
from bench.gpu.steps import Bench
from core.config import Sampling

WARM_UP_LIMIT_S = 600.0  # for one answer
PROMPTS = 64  # that the warm-up's are unlike


def server_flags(bench: Bench, gpus: Sequence[int]) -> tuple[str, ...]:
    """run_server.sh's, for one replica on each of these GPUs."""
    options = bench.options
    flags = ["--engine", "vllm", "--dp", str(len(gpus)), "--model_path", str(bench.model)]
    flags += ["--python", options.python, "--timeout", str(options.timeout_s)]
    if options.platform:
        flags += ["--platform", options.platform]
    if options.port:
        flags += ["--port", str(options.port)]
    if options.on_gpus:
        flags += ["--gpus", ",".join(map(str, gpus))]
    return tuple(flags)


def engine_flags(options: Options) -> tuple[str, ...]:
    """vLLM's: noise for weights where no model was named."""
    return (*(("--load-format=dummy",) if options.model is None else ()), *options.engine_flags)


def warm(bench: Bench, urls: Sequence[str], requests: int) -> Found:
    """The ladder of lengths, then as many `requests` at once as steps will have, so that none meets a
    batch of a new size. Raises SetupError."""
    options = bench.options
    random = np.random.default_rng(SEED + 1)
    prompts = [random.integers(*bench.ids, options.isl, np.int32) for _ in range(PROMPTS)]
    sampling = Sampling(max_tokens=options.osl)
    found = warm_up(
        probe(urls, "auto"),
        prompts,
        requests,
        sampling,
        WARM_UP_LIMIT_S,
        options.warmup_tokens,
    )
    bench.say(
        f"warm-up: lengths up to {found.longest}, {found.at_once} at once at last: "
        f"{found.seconds:.0f} s"
    )
    return {
        "step": "warmup",
        "requests": found.requests,
        "at_once": found.at_once,
        "longest": found.longest,
        "seconds": found.seconds,
    }
