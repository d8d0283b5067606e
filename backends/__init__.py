"""The engines' dialects: how one request is encoded for, and its answer read from, an engine.

A new engine is one module with one class that satisfies `backends.base.Backend`, plus a line here.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from backends.base import Backend
from core.errors import ConfigError

BACKENDS = {
    "sglang": "backends.sglang:SGLang",
    "vllm": "backends.vllm:VLLM",
    "embedded": "backends.embedded:Embedded",
}


def create_backend(name: str, model: str | None = None) -> Backend:
    """Return the backend called `name`; `model` is the name that the engine serves, if it has one."""
    if name not in BACKENDS:
        raise ConfigError(f"--backend {name}: choose one of auto, {', '.join(BACKENDS)}")
    module, attribute = BACKENDS[name].split(":")
    return cast(Backend, getattr(import_module(module), attribute)(model))
