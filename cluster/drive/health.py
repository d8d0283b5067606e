"""Which replicas answer, asked of all at once."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

PATH = "/health"  # of SGLang, vLLM and our own engines alike
LIMIT_S = 10.0
TRIES = 2
AT_ONCE = 32


def answering(urls: Sequence[str]) -> dict[str, str]:
    """What is wrong with each replica that does not answer; empty: all do."""
    if not urls:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(urls))) as pool:
        said = pool.map(_ask, urls)
        return {url: reason for url, reason in zip(urls, said, strict=True) if reason}


def _ask(url: str) -> str:
    """Empty where it is well."""
    reason = ""
    for _ in range(TRIES):
        address = urlsplit(url)
        connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=LIMIT_S
        )
        try:
            connection.request("GET", PATH)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            if status == 200:
                return ""
            reason = f"HTTP {status} to {PATH}"
        finally:
            connection.close()
    return reason
