"""Which replicas answer, asked of all at once; what a node's doctor has found."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from server.ready import Never, NotYet, generate

LIMIT_S = 60.0
AT_ONCE = 32
PAUSE_S = 0.5
GPUS = "GPUs"  # the doctor's group; what engines need may be in a container that it does not see


def answering(engine: str, urls: Sequence[str]) -> dict[str, str]:
    """What is wrong with each replica that generates nothing; empty: all do.

    A generation, because a health page is 200 after an engine has hung, too.
    """
    if not urls:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(urls))) as pool:
        said = pool.map(lambda url: _ask(engine, url), urls)
        return {url: reason for url, reason in zip(urls, said, strict=True) if reason}


def _ask(engine: str, url: str) -> str:
    """Empty where it is well. A refused connection is asked twice, a slow answer waited for."""
    address, limit = urlsplit(url), time.monotonic() + LIMIT_S
    for pause_s in (PAUSE_S, 0.0):
        left_s = max(1.0, limit - time.monotonic())
        try:
            generate(engine, address.hostname or "", address.port or 0, left_s)
            return ""
        except (NotYet, Never) as error:
            reason = str(error) or "connection refused"
        time.sleep(pause_s)
    return reason


def faults(document: str) -> list[str]:
    """What the doctor calls a failure of the GPUs."""
    try:
        found = json.loads(document)["findings"]
        bad = [one for one in found if one["level"] == "FAIL" and one["group"] == GPUS]
        return [f"{one['what']}: {one['value']}" for one in bad]
    except (ValueError, KeyError, TypeError):
        return ["the doctor's answer cannot be read"]
