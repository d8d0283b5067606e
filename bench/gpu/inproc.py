"""The engine in its own process without HTTP: bench/gpu/own.py started, asked and ended from here."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.gpu.together import deferred
from core.errors import HarnessError, RunError, SetupError
from server.plan import Replica
from server.process import members

SCRIPT = Path(__file__).with_name("own.py")
GRACE_S = 30.0  # for an engine that serves, between the end of its stdin and KILL
KILL_S = 10.0  # for the kernel to end processes
LOOK_S = 0.1
TAIL_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Ready:
    """An engine that has started."""

    ready_s: float  # from its first line of Python
    version: str
    ignored: tuple[str, ...]  # settings of the command line that only a server has
    max_num_seqs: int
    max_num_batched_tokens: int


@dataclass(frozen=True, slots=True)
class OwnRun:
    """What one call of vLLM's `LLM.generate` did."""

    seconds: float  # of the call
    requests: int
    prompt_tokens: int
    output_tokens: int
    cpu_s: float | None  # of all its processes

    @property
    def tokens_per_s(self) -> float:
        """Of output."""
        return self.output_tokens / self.seconds


class OwnEngine:
    """Starts at once; `ready` waits for it. To be used by `own_engine`."""

    def __init__(
        self, replica: Replica, log: Path, environ: Mapping[str, str], limit_s: float
    ) -> None:
        """limit_s: for the start, and for each call. Raises SetupError."""
        self.log, self._limit_s = log, limit_s
        self.command = own_command(replica)
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("wb") as file:
                self._process = subprocess.Popen(
                    self.command,
                    env=environment(replica, environ),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    bufsize=0,  # an answer is waited for before it is read
                    start_new_session=True,  # by which all of its processes are found
                )
        except OSError as error:
            raise SetupError(f"{self.command[0]} cannot be started: {error}") from None

    @property
    def session(self) -> int:
        """Of all its processes."""
        return self._process.pid

    @cached_property
    def ready(self) -> Ready:
        """Waits for the start. Raises SetupError."""
        told = self._answer(SetupError)
        return Ready(**told | {"ignored": tuple(told["ignored"])})

    def generate(
        self,
        prompts: Path,
        max_tokens: int,
        *,
        temperature: float = 1.0,
        ignore_eos: bool = False,
        detokenize: bool = True,
        singly: bool = False,
    ) -> OwnRun:
        """prompts: JSON, a list of lists of ids. detokenize: as `vllm bench throughput` does unless
        told otherwise. singly: one after another. Raises RunError; SetupError where the start fails."""
        assert self.ready and self._process.stdin
        ask = {
            "prompts": str(prompts),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "ignore_eos": ignore_eos,
            "detokenize": detokenize,
            "singly": singly,
        }
        with suppress(BrokenPipeError):  # that it has ended is what the answer says
            self._process.stdin.write(json.dumps(ask).encode() + b"\n")
        return OwnRun(**self._answer(RunError))

    def _answer(self, error: type[HarnessError]) -> dict[str, Any]:
        """Its next line."""
        stdout = self._process.stdout
        assert stdout
        if not select.select([stdout], [], [], self._limit_s)[0]:
            raise error(f"vLLM's LLM gave no answer in {self._limit_s:g} s: {self._end_of_log()}")
        line = stdout.readline()
        if not line:
            raise error(f"vLLM's LLM ended without a word: {self._end_of_log()}")
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise error(f"vLLM's LLM: {told['error']}: {self._end_of_log()}")
        return told

    def _end_of_log(self) -> str:
        text = self.log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")
        return f"the end of {self.log}:\n{text}"

    def end(self) -> None:
        """None of its processes is left. One that still starts is not asked. Raises RunError."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        if "ready" not in vars(self) or not gone(self._living, GRACE_S):
            kill(self._living())
        self._process.stdout.close()
        if not gone(self._living, KILL_S):
            raise RunError(f"processes {self._living()} of vLLM's LLM outlive KILL: end them")
        self._process.wait()

    def _living(self) -> list[int]:
        return members(self.session)


def gone(living: Callable[[], Sequence[int]], limit_s: float) -> bool:
    """Whether none of them lives by then."""
    limit = time.monotonic() + limit_s
    while living():
        if time.monotonic() > limit:
            return False
        time.sleep(LOOK_S)
    return True


def kill(pids: Sequence[int]) -> None:
    """At once; who has ended meanwhile has ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def own_command(replica: Replica) -> list[str]:
    """The replica's, with our script in the server's place."""
    python, _, _, *flags = replica.command  # python -m module
    return [python, str(SCRIPT), *flags]


def environment(replica: Replica, environ: Mapping[str, str]) -> dict[str, str]:
    """The replica's, and what is printed is in the log when an answer comes."""
    kept = {name: value for name, value in environ.items() if name not in replica.removed}
    return kept | dict(replica.environment) | {"PYTHONUNBUFFERED": "1"}


@contextmanager
def own_engine(
    replica: Replica, log: Path, environ: Mapping[str, str], limit_s: float
) -> Iterator[OwnEngine]:
    """vLLM's LLM with the settings of a replica, as it starts; ended at the end."""
    engine = OwnEngine(replica, log, environ, limit_s)
    try:
        yield engine
    finally:
        with deferred():
            engine.end()
