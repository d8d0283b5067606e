"""Running code that nobody vouched for, from the harness's side.

A sandbox is a process that is asked questions over one socket and may lie: what it answers is data,
read within a time and a size, and judged here. Expected outputs never go in, so code that takes over
the channel, or ends its process, has gained nothing. What the process is kept from is in
`sandbox_layers`; who ends it, in `sandbox_enter`.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from core.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent
ENTER = "import sys; sys.path.insert(0, {!r}); from accuracy import sandbox_enter as e; e.main()"
# Fixed and small: no token or proxy of the harness gets in. One BLAS thread, as LiveCodeBench has it:
# each would reserve address space.
ENVIRONMENT = {
    **{"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LC_ALL": "C.UTF-8"},
    **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
}
LAYERS = ("namespaces", "landlock", "seccomp")
START_S = 60.0  # an interpreter's start takes 0.1 s; this is for a machine on its knees
HEADER = struct.Struct("<Q")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one sandbox may use; one process runs in it, so these are totals.

    memory_bytes is address space: 4 GiB is the bound that LiveCodeBench names without setting it, and
    leaves room for numpy (0.5 GiB) and the big thread stacks that recursive programs ask for.
    """

    cpu_s: float = 3600.0
    memory_bytes: int = 4 << 30
    disk_bytes: int = 32 << 20
    answer_bytes: int = 64 << 20
    tasks: int = 64
    open_files: int = 64
    layers: tuple[str, ...] = LAYERS


class Ended(Exception):
    """The sandbox can answer no more; the text says why."""


class Sandbox:
    """A process that gave up its rights, then runs `work` ("module:function", given the socket).

    A context manager: at its end no process and no file of it is left. SetupError: it did not start.
    """

    def __init__(self, work: str, limits: SandboxLimits) -> None:
        self._work, self._limits = work, limits

    def __enter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="sandbox-")
        self._socket, inner = socket.socketpair()
        self._socket.setblocking(False)
        settings = json.dumps(asdict(self._limits) | {"folder": self._folder})
        try:
            with inner:
                self._warden = self._start(inner, settings)
        except OSError as error:
            self._socket.close()
            os.rmdir(self._folder)  # noqa: PTH106
            raise SetupError(f"the sandbox did not start: {error}") from error
        try:
            missing = json.loads(self._read(time.monotonic() + START_S))
            _warn_once(tuple(layer for layer in missing if "switched off" not in layer))
        except BaseException as error:
            why = self._close()
            if isinstance(error, (Ended, ValueError)):
                raise SetupError(f"the sandbox did not start ({error}): {why[-1000:]}") from error
            raise
        return self

    def _start(self, inner: socket.socket, settings: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", ENTER.format(str(ROOT)), settings, self._work],
            stdin=inner.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._close()

    def ask(self, message: bytes, timeout_s: float) -> bytes:
        """Send a message and return the answer: bytes to be trusted in nothing. Ended: none came."""
        deadline = time.monotonic() + timeout_s
        left = memoryview(HEADER.pack(len(message)) + message)
        while left:
            self._wait(select.POLLOUT, deadline)
            try:
                left = left[self._socket.send(left, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                continue
            except OSError:
                raise Ended(self._how_it_ended()) from None
        return self._read(deadline)

    def _read(self, deadline: float) -> bytes:
        (size,) = HEADER.unpack(self._exactly(HEADER.size, deadline))
        if size > self._limits.answer_bytes:
            raise Ended(f"more than {self._limits.answer_bytes} bytes of output")
        return self._exactly(size, deadline)

    def _exactly(self, size: int, deadline: float) -> bytes:
        found = bytearray()
        while len(found) < size:
            self._wait(select.POLLIN, deadline)
            try:
                piece = self._socket.recv(min(size - len(found), 1 << 20))
            except BlockingIOError:
                continue
            except OSError:
                piece = b""
            if not piece:
                raise Ended(self._how_it_ended())
            found += piece
        return bytes(found)

    def _wait(self, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise Ended("time limit")

    def _how_it_ended(self) -> str:
        """The socket is closed; most often because the process ended, and the warden tells how."""
        try:
            code = self._warden.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "the channel was closed"
        return f"the process ended by signal {256 - code}" if code > 128 else f"exit code {code}"

    def _close(self) -> str:
        """End it; returns what the warden said on stderr."""
        self._socket.close()
        self._warden.terminate()  # beside the hang-up: a forked harness may hold the socket, too
        try:
            _, said = self._warden.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._warden.pid, 9)
            _, said = self._warden.communicate()
        if not os.path.ismount(self._folder):
            shutil.rmtree(self._folder, ignore_errors=True)
        return said.decode(errors="replace").strip()


@cache
def _warn_once(missing: tuple[str, ...]) -> None:
    if missing:
        log.warning(
            "untrusted programs run with less isolation: no %s here; limits on time, memory, output "
            "and files still hold. Use a machine of no importance, or allow user namespaces",
            ", no ".join(missing),
        )
