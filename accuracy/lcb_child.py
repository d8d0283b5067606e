"""What runs in the sandbox: a LiveCodeBench candidate, compiled and called as LiveCodeBench does.

It is given the code and one input after another, and sends back what came out. It never sees an
expected output and gives no verdict: `lcb_run` does. What a program reads are LiveCodeBench's stand-ins
for stdin, at release 28fef95: the text's `read` never moves on, the bytes' `readline` repeats itself.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from types import FrameType, SimpleNamespace
from typing import Any
from unittest.mock import mock_open, patch

from accuracy.lcb_code import Method, compile_code, disarm

MAX_INT_DIGITS = 50_000  # as LiveCodeBench's runner sets it
NEED_NUMPY = ("numpy", "scipy", "pandas")
Message = dict[str, Any]


class TimeoutException(Exception):  # LiveCodeBench's name: the verdict looks for it
    """The alarm went off; a candidate may catch it, and the harness's own limit follows."""


class OutputLimitError(BaseException):
    """More was printed than is read. No Exception: candidates catch those."""


def serve(channel: int, missing: list[str]) -> None:
    """Say hello with the layers that are missing, take the code, then answer each input."""
    read, write = os.read, os.write  # the candidate may replace what the modules hold
    signal.signal(signal.SIGALRM, _alarm)
    sys.set_int_max_str_digits(MAX_INT_DIGITS)
    _send(write, channel, missing)
    task = _receive(read, channel)
    if any(name in task["code"] for name in NEED_NUMPY):
        import_module("numpy")  # LiveCodeBench has it loaded; disarmed, it could not be
    disarm()
    methods: list[Method] = []

    def prepare() -> Message:
        methods.append(compile_code(task["code"], task["func_name"]))
        return {}

    def answer(case: str) -> Message:
        if task["func_name"]:
            return _call(methods[0], case)
        return _run(methods[0], case, task["output_chars"])

    _send(write, channel, _timed(prepare, task["timeout_s"]))
    while True:
        work = partial(answer, _receive(read, channel))
        _send(write, channel, _timed(work, task["timeout_s"]))


def _alarm(number: int, frame: FrameType | None) -> None:
    raise TimeoutException


def _timed(work: Callable[[], Message], timeout_s: float) -> Message:
    """What `work` returns, or the Exception that it raised. SystemExit and its like end the process."""
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - a candidate raises what it likes
        late = "timeoutexception" in repr(error).lower()
        return {"error": "time limit" if late else repr(error)[:200]}
    except OutputLimitError:
        return {"error": "too much output"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _call(method: Method, case: str) -> Message:
    arguments = [json.loads(line) for line in case.split("\n")]
    value = method(*arguments)
    return {"value": plain(list(value) if isinstance(value, tuple) else value)}


def _run(method: Method, case: str, output_chars: int) -> Message:
    stdout, output = sys.stdout, _Output(output_chars)
    sys.stdout = output
    try:
        with _stdin_of(case), suppress(SystemExit):
            method()
    finally:
        sys.stdout = stdout
    return {"stdout": output.getvalue()}


@contextmanager
def _stdin_of(case: str) -> Iterator[None]:
    """Two stand-ins for stdin: `from sys import stdin` ran before this and holds the real one."""
    lines, real = iter(case.split("\n")), sys.stdin
    with (
        patch.object(real, "read", lambda *_: case),
        patch.object(real, "readlines", lambda *_: case.split("\n")),
        patch.object(real, "readline", lambda *_: next(lines)),
        patch("sys.stdin", _Stdin(case)),
        patch("builtins.open", mock_open(read_data=case)),
    ):
        yield


def plain(value: object) -> object:
    """JSON from which `lcb_run.unplain` rebuilds a value that compares as this one would.

    Lists and scalars stand for themselves, a dict is {"d": ...}, another exact number a fraction
    {"q": [...]}, and what equals no JSON value (tuples and sets among it) is {"o": its type}.
    """
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"d": {key: plain(item) for key, item in value.items()}}
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if getattr(value, "size", 0) == 1 and hasattr(value, "tolist"):  # numpy's scalars
        return plain(value.tolist())
    try:
        return {"q": [str(part) for part in value.as_integer_ratio()]}  # type: ignore[attr-defined]
    except (AttributeError, ValueError, OverflowError, TypeError):
        return {"o": type(value).__name__}


class _Output(io.StringIO):
    """Captured stdout: bounded, and its `close` cannot be called, as in LiveCodeBench."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def write(self, text: str) -> int:
        self._left -= len(text)
        if self._left < 0:
            raise OutputLimitError
        return super().write(text)

    def close(self, x: object) -> None:  # type: ignore[override]
        pass


class _Stdin:
    """LiveCodeBench's stand-in: text and bytes do not share a position, and it is not iterable."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = io.StringIO(text)
        data = text.encode()
        first = data.split(b"\n")[0] + b"\n"  # and each time the first
        self.buffer = SimpleNamespace(read=lambda *_: data, readline=lambda *_: first)

    def read(self, *args: object) -> str:
        return self._text

    def readline(self, *args: int) -> str:
        return self._lines.readline(*args)

    def readlines(self, *args: object) -> list[str]:
        return self._text.split("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lines, name)


def _receive(read: Callable[[int, int], bytes], channel: int) -> Any:
    (size,) = struct.unpack("<Q", _exactly(read, channel, 8))
    return json.loads(_exactly(read, channel, size))


def _exactly(read: Callable[[int, int], bytes], channel: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = read(channel, min(size - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _send(write: Callable[[int, Any], int], channel: int, message: object) -> None:
    data = json.dumps(message).encode()
    left = memoryview(struct.pack("<Q", len(data)) + data)
    while left:
        left = left[write(channel, left) :]
