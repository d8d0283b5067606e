"""Asking engines for pages, one or many at a time: what stands beside the generation endpoint.

No proxy from the environment: the measurement talks to the engines directly, so do we.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

AT_ONCE = 64

T = TypeVar("T")
R = TypeVar("R")


def fetch(
    url: str, timeout_s: float, method: str = "GET", body: bytes | None = None
) -> tuple[int, bytes]:
    """Status and body of a page. Raises OSError when there is no answer in time."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    head = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=head, method=method)
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {error!r}") from None


def at_once(work: Callable[[T], R], items: Sequence[T], limit: int = AT_ONCE) -> list[R]:
    """`work` of every item, `limit` side by side, in order; raises the first failure without waiting
    for the rest."""
    threads = ThreadPoolExecutor(max(1, min(limit, len(items))))
    try:
        futures = [threads.submit(work, item) for item in items]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future in done and (error := future.exception()) is not None:
                raise error
        return [future.result() for future in futures]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
