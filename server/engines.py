"""The engines' command lines: how each one is told the model, the address and our settings."""

from __future__ import annotations

import json
from collections.abc import Sequence

from core.errors import ConfigError
from server import own
from server.options import OWN, Options
from server.recipes import Recipe, parse_version, without

STEPS, TOP_K = 3, 1  # the policy of Interactive (mlcommons/inference_policies PR 330)
DRAFT_TOKENS = STEPS + 1  # a chain: what SGLang sets by itself where top-k is 1
# Deltas instead of all ids so far in every event; renamed by sglang PR 20614, the old name stays.
INCREMENTAL = "--incremental-streaming-output"
INCREMENTAL_BEFORE = ((0, 5, 13), "--stream-output")
OURS = {  # what would break the layout if it came after --
    "port": "give --port before --",
    "host": "give --host before --",
    "model": "give --model_path before --",
    "model-path": "give --model_path before --",
    "tensor-parallel-size": "a replica has one GPU (TP=1)",
    "tp": "a replica has one GPU (TP=1)",
    "tp-size": "a replica has one GPU (TP=1)",
    "data-parallel-size": "give --dp before --",
    "dp": "give --dp before --",
    "dp-size": "give --dp before --",
    # Of our own engines.
    "replicas": "give --dp before --",
    "dialect": "what waits for the replicas speaks vLLM's",
    "until-stdin-closes": "they end with run_server.sh",
}


def check(engine: str, options: Options) -> None:
    """Raises ConfigError for what cannot work."""
    if options.dp_mode == "internal" and engine in OWN:
        raise ConfigError(f"--dp-mode internal: {engine} has none; use --dp-mode replicas")
    if options.dp_mode == "internal" and engine == "vllm":
        raise ConfigError(
            "--dp-mode internal: vLLM's own data parallel mode shards gpt-oss's experts over all "
            "ranks and runs them in lockstep, so it is not N replicas; use --dp-mode replicas"
        )
    if engine in OWN:
        own.check(engine, options)
    for flag in options.extra:
        name = flag.partition("=")[0].replace("_", "-")
        if name.startswith("-") and (reason := OURS.get(name.lstrip("-"))):
            raise ConfigError(f"{flag} after --: {reason}")


def command(
    engine: str, version: str | None, options: Options, recipe: Recipe, port: int, dp: int
) -> list[str]:
    """Without the interpreter. dp: replicas inside this one server."""
    start, ours = BUILDERS[engine](version, options, recipe, port, dp)
    return [*start, *without([*ours, *_scaled(recipe.flags, dp)], options.extra), *options.extra]


def _vllm(
    version: str | None, options: Options, recipe: Recipe, port: int, dp: int
) -> tuple[list[str], list[str]]:
    start = ["-m", "vllm.entrypoints.openai.api_server", f"--model={options.model}"]
    start += [f"--host={options.host}", f"--port={port}"]
    ours = _interval(options, recipe)
    if options.draft:
        draft = {"method": "eagle3", "model": options.draft, "num_speculative_tokens": STEPS}
        ours.append(f"--speculative-config={json.dumps(draft, separators=(',', ':'))}")
    return start, ours


def _sglang(
    version: str | None, options: Options, recipe: Recipe, port: int, dp: int
) -> tuple[list[str], list[str]]:
    start = ["-m", "sglang.launch_server", f"--model-path={options.model}"]
    start += [f"--host={options.host}", f"--port={port}"]
    old, older_name = INCREMENTAL_BEFORE
    incremental = older_name if version and parse_version(version) < old else INCREMENTAL
    ours = [*([f"--dp-size={dp}"] if dp > 1 else []), "--enable-metrics", incremental]
    ours += _interval(options, recipe)
    if options.draft:
        ours += [
            "--speculative-algorithm=EAGLE3",
            f"--speculative-draft-model-path={options.draft}",
            f"--speculative-num-steps={STEPS}",
            f"--speculative-eagle-topk={TOP_K}",
            f"--speculative-num-draft-tokens={DRAFT_TOKENS}",
        ]
    return start, ours


def _interval(options: Options, recipe: Recipe) -> list[str]:
    interval = options.stream_interval or recipe.stream_interval
    return [f"--stream-interval={interval}"] if interval else []


def _scaled(flags: Sequence[str], dp: int) -> list[str]:
    """SGLang counts running requests over all its internal replicas."""
    found = []
    for flag in flags:
        name, _, value = flag.partition("=")
        found.append(f"{name}={int(value) * dp}" if name == "--max-running-requests" else flag)
    return found


# Each gives what starts the engine, and flags that the user's own may replace.
BUILDERS = {"vllm": _vllm, "sglang": _sglang, "embedded": own.embedded, "emulator": own.emulator}
