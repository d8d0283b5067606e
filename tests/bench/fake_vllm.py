"""As much of vLLM as bench/gpu/own.py uses; a test copies it to `vllm/__init__.py`.

It behaves as its model's name says, and generates nothing but ones.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__version__ = "0.26.0"
DEFAULTS = {"LLM_CLASS": 16_384, "OPENAI_API_SERVER": 8_192}  # max_num_batched_tokens
BURN_S = 0.1
DEAF = f"import signal, time; signal.signal({int(signal.SIGTERM)}, signal.SIG_IGN); time.sleep(600)"
CORE = f"""
import time
while input():
    end = time.process_time() + {BURN_S}
    while time.process_time() < end:
        pass
    print("done", flush=True)
"""
KERNEL = "Triton kernel JIT compilation during inference: {}. This causes a latency spike"
WAIT_S = 60.0
ENDLESS_S = 3600.0  # no test waits so long


@dataclass
class EngineArgs:
    model: str = "none"
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None

    @classmethod
    def from_cli_args(cls, args: Namespace) -> EngineArgs:
        return cls(args.model, args.max_num_seqs, args.max_num_batched_tokens)

    def create_engine_config(self, usage: str) -> Namespace:
        batched = self.max_num_batched_tokens or DEFAULTS[usage]
        self.max_num_seqs = self.max_num_seqs or 1024
        scheduler = Namespace(max_num_seqs=self.max_num_seqs, max_num_batched_tokens=batched)
        return Namespace(scheduler_config=scheduler)


class SamplingParams:
    def __init__(self, **told: Any) -> None:
        self.told = told


class Core:
    """A process of its own, as an engine's core is: it lives, and works when asked."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", CORE]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def burn(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("work\n")
        self._process.stdout.readline()

    def shutdown(self) -> None:
        self._process.communicate("\n")
        say("shut down")


class LLM:
    def __init__(self, settings: EngineArgs) -> None:
        self._mode = Path(settings.model).name
        self._calls, self._core = 0, Core()
        config = settings.create_engine_config("LLM_CLASS")
        self.llm_engine = Namespace(vllm_config=config, engine_core=self._core)
        if self._mode == "broken":
            say("CUDA is not here")
            raise RuntimeError("Engine core initialization failed")
        if self._mode == "silent":
            time.sleep(WAIT_S)
        if self._mode == "stubborn":
            subprocess.Popen([sys.executable, "-c", DEAF])

    @classmethod
    def from_engine_args(cls, settings: EngineArgs) -> LLM:
        return cls(settings)

    def generate(
        self, prompts: Sequence[dict[str, list[int]]], params: list[Any], use_tqdm: bool
    ) -> list[Namespace]:
        self._calls += 1
        say(f"asked {params[0].told}")
        getattr(self, f"_{self._mode}", self._core.burn)()
        answers = [
            Namespace(
                prompt_token_ids=prompt["prompt_token_ids"],
                outputs=[Namespace(token_ids=[1] * one.told["max_tokens"])],
            )
            for prompt, one in zip(prompts, params, strict=True)
        ]
        return answers[1:] if self._mode == "forgetful" else answers

    def _failing(self) -> None:
        raise ValueError("no such token")

    def _dying(self) -> None:
        say("Killed by nobody")
        os._exit(3)

    def _compiling(self) -> None:
        """In the first call, which is not counted, and in the third."""
        if self._calls in (1, 3):
            say(KERNEL.format(f"_own_{self._calls}"))

    def _dying_in_the_third(self) -> None:
        if self._calls == 3:
            self._dying()

    def _after(self) -> None:
        """Tells whether ours has done its part of the round, or has not begun it."""
        folder = Path(os.environ["BESIDE"]) / f"round-{self._calls - 1}"
        done = [*folder.rglob("summary.json")]
        say("after ours" if done else "beside ours" if folder.exists() else "before ours")

    def _endless(self) -> None:
        time.sleep(ENDLESS_S)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
