"""Requests to one leaderboard, with the standard library: the client alone needs no other.

The environment's proxy is used, but never for this machine itself. Redirects are refused: they
would carry the team's token to another host.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import time
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from core.errors import RunError

BODY_LIMIT = 1024 * 1024  # bytes
# No connection was made, so the server cannot have got anything.
UNCONNECTED = (ConnectionRefusedError, socket.gaierror)


class Unreachable(RunError):
    """No connection could be made: nothing was sent."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Web:
    """A leaderboard's address. All methods raise RunError where there is no answer.

    It is Unreachable where the leaderboard cannot have got the request.
    """

    def __init__(self, url: str, timeout_s: float, retry_waits_s: Sequence[float]) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._retry_waits_s = retry_waits_s
        self._opener = _opener(urlsplit(url).hostname or "")

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        return self._exchange(Request(f"{self._url}/{path}"))

    def post(self, path: str, content: object, token: str | None) -> tuple[int, str]:
        """Status and body. Repeated only where no connection could be made."""
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        body = json.dumps(content).encode()
        return self._exchange(Request(f"{self._url}/{path}", body, headers, method="POST"))

    def open(self, path: str) -> HTTPResponse:
        """An answer that is still arriving."""
        try:
            return self._open(Request(f"{self._url}/{path}"), ())
        except HTTPError as error:
            raise RunError(f"{self._url}: HTTP {error.code}") from None

    def _exchange(self, request: Request) -> tuple[int, str]:
        answer: HTTPResponse | HTTPError
        try:
            try:
                answer = self._open(request, self._retry_waits_s)
            except HTTPError as error:
                answer = error
            with answer:
                status = answer.code if isinstance(answer, HTTPError) else answer.status
                return status, answer.read(BODY_LIMIT).decode(errors="replace")
        except (OSError, HTTPException) as error:
            raise self._fault(error) from None

    def _open(self, request: Request, waits_s: Sequence[float]) -> HTTPResponse:
        for wait_s in (*waits_s, None):
            try:
                answer: HTTPResponse = self._opener.open(request, timeout=self._timeout_s)
                return answer
            except HTTPError:
                raise
            except URLError as error:
                if not isinstance(error.reason, UNCONNECTED):
                    raise self._fault(error.reason) from None
                if wait_s is None:
                    raise Unreachable(str(self._fault(error.reason))) from None
                time.sleep(wait_s)
            except (OSError, HTTPException) as error:
                raise self._fault(error) from None
        raise AssertionError("unreachable")

    def _fault(self, error: object) -> RunError:
        if isinstance(error, TimeoutError):
            return RunError(f"{self._url}: no answer within {self._timeout_s:g} s")
        return RunError(f"{self._url}: no answer: {error}; check the address and the network")


def _opener(host: str) -> OpenerDirector:
    direct = [ProxyHandler({})] if _is_this_machine(host) else []
    return build_opener(_NoRedirects, *direct)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
