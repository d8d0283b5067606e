"""Whether a replica really answers: a generation from token ids, as the harness will ask for.

A health page says less: it is 200 before the model has run once, and after an engine has died.
"""

from __future__ import annotations

import http.client
import json
import threading
import time

from server.options import OWN
from server.plan import Replica

IDS = [1, 2, 3]  # in every vocabulary
ASKS = {
    "vllm": ("/v1/completions", {"prompt": IDS, "max_tokens": 2, "temperature": 0}),
    "sglang": (
        "/generate",
        {"input_ids": IDS, "sampling_params": {"max_new_tokens": 2, "temperature": 0}},
    ),
}
ASKS |= dict.fromkeys(OWN, ASKS["vllm"])  # they speak its dialect
PAUSE_S = 0.5


class NotYet(Exception):
    """No answer so far; why."""


class Never(Exception):
    """The replica answers, and refuses what the harness needs."""


class Asking(threading.Thread):
    """Asks one replica until it answers. A thread, because a first answer can take minutes."""

    def __init__(self, engine: str, replica: Replica, deadline: float) -> None:
        super().__init__(daemon=True, name=f"asking-{replica.index}")
        self.wanted = True  # False ends it
        self.ready = False
        self.refused = ""
        self.heard = ""  # what it said instead of an answer
        self._engine, self._replica, self._deadline = engine, replica, deadline

    def run(self) -> None:
        while self.wanted and (left := self._deadline - time.monotonic()) > 0:
            try:
                generate(self._engine, self._replica.host, self._replica.port, left)
            except NotYet as reason:
                self.heard = str(reason)
            except Never as reason:
                self.refused = str(reason)
                return
            else:
                self.ready = True
                return
            time.sleep(PAUSE_S)


def generate(engine: str, host: str, port: int, timeout_s: float) -> None:
    """Raises NotYet, Never."""
    path, body = ASKS[engine]
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        head = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), head)
        response = connection.getresponse()
        status, text = response.status, response.read()
    except ConnectionRefusedError:
        raise NotYet("") from None
    except (OSError, http.client.HTTPException) as error:
        raise NotYet(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
    said = f"HTTP {status} to {path}: {text[:200].decode('utf-8', 'replace')}"
    if status in (400, 404, 405, 422):
        raise Never(said)
    if status != 200 or _tokens(text) < 1:
        raise NotYet(said)


def _tokens(text: bytes) -> int:
    """Tokens that the answer's own count gives; 0: no answer."""
    try:
        answer = json.loads(text)
        counts = answer.get("usage") or answer.get("meta_info")
        return int(counts["completion_tokens"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0
