"""What an engine is asked to do beside generating: to forget the prompts that it has seen.

It is never asked to abort. A request whose connection closes is aborted by both engines themselves,
and to end more than that (SGLang's /abort_request with abort_all) could end somebody else's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from backends.engines import Engines
from backends.info import EngineInfo
from backends.pages import at_once, fetch

BUSY_LIMIT_S = 10.0  # how long SGLang may say that requests are still running
BUSY_STEP_S = 0.2
TIMEOUT_S = 30.0
DEV_MODE = "only in development mode (VLLM_SERVER_DEV_MODE=1)"


@dataclass(frozen=True, slots=True)
class CacheReset:
    """What became of one replica's prefix cache before the run."""

    url: str
    done: bool  # it is empty, or there is none
    said: str


def reset_caches(engines: Engines) -> tuple[CacheReset, ...]:
    """Empty every replica's prefix cache, where it can be."""
    return tuple(at_once(reset_cache, engines.infos))


def reset_cache(info: EngineInfo) -> CacheReset:
    """Empty one replica's prefix cache through its own endpoint."""
    if info.prefix_caching is False:
        return CacheReset(info.url, True, "prefix caching is off")
    try:
        done, said = _flush(info.url) if info.kind == "sglang" else _reset(info.url)
    except OSError as error:
        done, said = False, f"cannot be reset: no answer ({getattr(error, 'reason', error)})"
    return CacheReset(info.url, done, said)


def _flush(url: str) -> tuple[bool, str]:
    """SGLang refuses with HTTP 400 while anything runs, for a moment also after it has ended."""
    deadline = time.monotonic() + BUSY_LIMIT_S
    while True:
        status, _ = fetch(f"{url}/flush_cache", TIMEOUT_S, "POST", b"")
        if status == 200:
            return True, "reset"
        if status != 400:
            return False, f"cannot be reset: /flush_cache answers HTTP {status}"
        if time.monotonic() > deadline:
            return False, f"cannot be reset: still busy after {BUSY_LIMIT_S:g} s"
        time.sleep(BUSY_STEP_S)


def _reset(url: str) -> tuple[bool, str]:
    """vLLM has the endpoint only in development mode; its 200 means "asked", not "empty"."""
    status, _ = fetch(f"{url}/reset_prefix_cache", TIMEOUT_S, "POST", b"")
    if status == 200:
        return True, "reset"
    reason = DEV_MODE if status == 404 else f"/reset_prefix_cache answers HTTP {status}"
    return False, f"cannot be reset: {reason}"


def unreset(resets: tuple[CacheReset, ...]) -> str | None:
    """The warning about caches that may still hold earlier prompts; None without any."""
    left = [reset for reset in resets if not reset.done]
    if not left:
        return None
    return (
        f"the prefix cache of {left[0].url}"
        + (f" and {len(left) - 1} more" if len(left) > 1 else "")
        + f" may hold prompts of an earlier run: it {left[0].said}; restart the engine, best "
        "without prefix caching"
    )
