"""An engine as a child process, and a client that sees every byte and every chunk it sends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATHS = {"vllm": "/v1/completions", "sglang": "/generate"}
TIMEOUT_S = 20.0


@dataclass
class Reply:
    """What came back, as far as it came."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)  # of a chunked body
    body: bytes = b""
    complete: bool = False
    reset: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The stream's events without [DONE], which has to be the last one."""
        lines = [chunk for chunk in self.chunks if not chunk.startswith(b":")]
        assert all(line.startswith(b"data: ") and line.endswith(b"\n\n") for line in lines)
        assert lines[-1] == b"data: [DONE]\n\n"
        return [json.loads(line[6:]) for line in lines[:-1]]

    @property
    def seen(self) -> list[Any]:
        """The events of a stream that may have broken off."""
        return [json.loads(chunk[6:]) for chunk in self.chunks if b"[DONE]" not in chunk]


def parse(data: bytes) -> Reply:
    reply = Reply()
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return reply
    status, *lines = head.decode().split("\r\n")
    reply.status = int(status.split()[1])
    reply.headers = {key: value for key, _, value in (line.partition(": ") for line in lines)}
    if "content-length" in reply.headers:
        length = int(reply.headers["content-length"])
        reply.body, reply.complete = rest[:length], len(rest) >= length
        return reply
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if len(rest) < length + 2:
            break
        assert rest[length : length + 2] == b"\r\n"
        if length == 0:
            reply.complete = True
            break
        reply.chunks.append(rest[:length])
        rest = rest[length + 2 :]
    return reply


def is_complete(data: bytearray) -> bool:
    chunked = b"chunked" in data[:300]
    return (not chunked or data.endswith(b"0\r\n\r\n")) and parse(bytes(data)).complete


def read(connection: socket.socket, seconds: float = TIMEOUT_S) -> Reply:
    """Read until the answer is complete, the connection ends, or nothing comes any more."""
    connection.settimeout(seconds)
    data, reset = bytearray(), False
    while not is_complete(data):
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            reset = True
            break
        except TimeoutError:
            break
        if not more:
            break
        data += more
    reply = parse(bytes(data))
    reply.reset = reset
    return reply


def encode(method: str, path: str, value: object = None) -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode() if value else b""
    head = f"{method} {path} HTTP/1.1\r\nhost: engine\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def asking(
    dialect: str, prompt: Sequence[int], n: int, *, stream: bool = True, **more: Any
) -> dict[str, Any]:
    """A request's JSON; `more` are sampling settings."""
    if dialect == "sglang":
        sampling = {"max_new_tokens": n, **more}
        return {"input_ids": list(prompt), "stream": stream, "sampling_params": sampling}
    return {
        "prompt": list(prompt),
        "max_tokens": n,
        "stream": stream,
        "return_token_ids": True,
        "stream_options": {"include_usage": True} if stream else None,
        **more,
    }


@dataclass
class Answered:
    """What an answer says, whatever its dialect."""

    ids: list[int]
    finish: str | None
    counted: int  # completion tokens by the engine's own count


def understand(dialect: str, reply: Reply) -> Answered:
    """An answer of either dialect; SGLang's events hold all ids so far."""
    assert reply.status == 200, reply.body
    if dialect == "sglang":
        last = reply.events[-1] if reply.chunks else reply.json
        finish = last["meta_info"]["finish_reason"]["type"]
        return Answered(last["output_ids"], finish, last["meta_info"]["completion_tokens"])
    objects = reply.events if reply.chunks else [reply.json]
    choices = [choice for value in objects for choice in value["choices"]]
    ids = [i for choice in choices for i in choice["token_ids"]]
    return Answered(ids, choices[-1]["finish_reason"], objects[-1]["usage"]["completion_tokens"])


@dataclass
class Engine:
    process: subprocess.Popen[bytes]
    ready: dict[str, Any]

    def connect(self) -> socket.socket:
        host, port = self.ready["ready"].removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)

    def send(self, method: str, path: str, value: object = None) -> Reply:
        with self.connect() as connection:
            connection.sendall(encode(method, path, value))
            return read(connection)

    def ask(self, dialect: str, prompt: Sequence[int], n: int, **more: Any) -> Reply:
        return self.send("POST", PATHS[dialect], asking(dialect, prompt, n, **more))

    def start_asking(
        self, dialect: str, prompt: Sequence[int], n: int, **more: Any
    ) -> socket.socket:
        connection = self.connect()
        connection.sendall(encode("POST", PATHS[dialect], asking(dialect, prompt, n, **more)))
        return connection

    def truth(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.send("GET", "/truth").json
        return found

    def metric(self, name: str) -> float:
        lines = self.send("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}{{"))


def wait_until(condition: Callable[[], bool], seconds: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


@contextmanager
def engine(*arguments: str, script: Sequence[str] = ("-m", "engine")) -> Iterator[Engine]:
    """`python -m engine ARGUMENTS` for the duration of the block."""
    command = [sys.executable, *script, *arguments, "--until-stdin-closes"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdin and process.stdout
        try:
            yield Engine(process, json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()
            try:
                process.wait(TIMEOUT_S)
            finally:
                process.kill()


@contextmanager
def clock(*arguments: str) -> Iterator[Engine]:
    with engine("clock", *arguments) as started:
        yield started
