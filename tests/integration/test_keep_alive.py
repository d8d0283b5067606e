"""A server that closes a kept-alive connection while a request is on its way loses no query."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.harness import OFFLINE_CONF, run_mlperf, write_conf, write_dataset


class ClosesSecondRequest(BaseHTTPRequestHandler):
    """Answers the first request of a connection like vLLM and closes on the second, unanswered."""

    protocol_version = "HTTP/1.1"
    served = 0

    def do_GET(self) -> None:
        self._send({"version": "test"} if self.path == "/version" else {"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.served += 1
        if self.served > 1:
            self.close_connection = True
            return
        choice = {"text": "", "token_ids": [7, 8, 9], "finish_reason": "stop"}
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 3}
        self._send({"choices": [choice], "usage": usage})

    def _send(self, content: object) -> None:
        data = json.dumps(content).encode()
        found = 404 if self.path.endswith("model_info") else 200
        self.send_response(found)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), ClosesSecondRequest) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_request_that_met_a_closing_connection_is_sent_again(tmp_path: Path, url: str) -> None:
    data = write_dataset(tmp_path / "d.parquet", n=12)
    conf = write_conf(tmp_path / "u.conf", *OFFLINE_CONF)
    flags = ("--input-file", str(data), "--user-conf", str(conf), "--server-url", url)
    run = run_mlperf("offline", tmp_path, *flags, "--max-concurrency", "1")
    assert run.code == 0, run.stdout + run.stderr
    assert run.summary["failures"] == {}
    attempts = run.records["attempts"].tolist()
    assert attempts.count(2) >= len(attempts) // 2 - 1
