"""Everything a run is told, validated once and never changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from core.audit import AUDITS, Audit
from core.errors import ConfigError
from core.scenario import Scenario

Routing = Literal["least-tokens", "round-robin"]
MIN_DRAIN_MS, MAX_DRAIN_MS = 1, 1000
# Tokens of a step of --warmup-tokens. The routing kernels of vLLM's Triton MoE are compiled for a
# stride that is the batch's tokens rounded up to 32 (vllm/third_party/triton_kernels/topk.py, version
# 0.26), and Triton compiles once more for numbers that 16 divides: so each step has two lengths.
LADDER_STEP = 32


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the engine picks tokens. MLPerf: temperature 1, top_p 1, top_k off (-1)."""

    max_tokens: int
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0
    ignore_eos: bool = False  # go on to max_tokens whatever the model says: lengths are then given

    def __post_init__(self) -> None:
        require(self.max_tokens >= 1, "--max-tokens", self.max_tokens, "at least 1")
        require(self.temperature >= 0, "--temperature", self.temperature, "0 or more")
        require(self.top_k >= -1, "--top-k", self.top_k, "-1 or 0 (off) or a positive number")
        require(0 < self.top_p <= 1, "--top-p", self.top_p, "above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Four limits in seconds; each one that is hit is an outcome of its own."""

    connect_s: float = 10.0
    first_token_s: float = 600.0
    between_tokens_s: float = 120.0
    total_s: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("connect", "first_token", "between_tokens", "total"):
            value = getattr(self, f"{name}_s")
            require(value > 0, f"--{name.replace('_', '-')}-timeout", value, "more than 0 seconds")


@dataclass(frozen=True, slots=True)
class Scoring:
    """What judging answers needs."""

    reference: Path | None = None  # the accuracy dataset with its ground truth, for the gate
    tokenizer: Path | None = None  # None: gpt-oss's own vocabulary
    lcb_problems: Path | None = None


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One run of one scenario."""

    scenario: Scenario
    accuracy: bool
    input_file: Path
    demonstration: bool  # the bundled dataset with its own short settings
    mlperf_conf: Path
    user_conf: Path
    output_dir: Path
    sampling: Sampling
    timeouts: Timeouts = field(default_factory=Timeouts)
    backend: str = "auto"
    server_urls: tuple[str, ...] = ()
    warmup: int = 2  # requests to each replica before the run
    warmup_tokens: int = 0  # and prompts of each length up to this
    max_samples: int | None = None
    num_workers: int | None = None  # None: chosen from cores, replicas and rate
    max_concurrency: int | None = None  # over all replicas; None: the backend's own number for each
    routing: Routing = "least-tokens"
    drain_ms: float | None = None  # milliseconds between looks at a stream; None: auto, 0: off
    scoring: Scoring = field(default_factory=Scoring)
    gate: bool = False  # score accuracy first; a performance run that fails it does not start
    compliance: str | None = None  # a key of core.audit.AUDITS
    calibrate: bool = False  # find this client's ceiling against the emulator first

    def __post_init__(self) -> None:
        for flag, value in (
            ("--max-samples", self.max_samples),
            ("--num-workers", self.num_workers),
            ("--max-concurrency", self.max_concurrency),
        ):
            require(value is None or value >= 1, flag, value, "at least 1")
        require(self.warmup >= 0, "--warmup", self.warmup, "0 (off) or more requests")
        require(
            self.warmup_tokens == 0 or self.warmup_tokens >= LADDER_STEP,
            "--warmup-tokens",
            self.warmup_tokens,
            f"0 (off) or at least {LADDER_STEP} tokens, the first step of its lengths",
        )
        drain = self.drain_ms
        require(
            drain is None or drain == 0 or MIN_DRAIN_MS <= drain <= MAX_DRAIN_MS,
            "--drain",
            drain,
            f"auto, off, or {MIN_DRAIN_MS} to {MAX_DRAIN_MS} milliseconds",
        )
        silence_ms = 1e3 * self.timeouts.between_tokens_s
        require(
            (drain or 0) < silence_ms / 2,
            "--drain",
            drain,
            f"under half of --between-tokens-timeout ({silence_ms:g} ms)",
        )

    @property
    def audit(self) -> Audit | None:
        return None if self.compliance is None else AUDITS[self.compliance]

    @property
    def run_dir(self) -> Path:
        """Where this run's files go; a compliance run's in the folders that a submission wants."""
        if self.compliance is not None:
            return self.top_dir / "performance" / "run_1"
        return self.top_dir

    @property
    def top_dir(self) -> Path:
        """What belongs to this run as a whole: `<output>/<scenario>/<performance|accuracy|TEST..>`."""
        kind = self.compliance or ("accuracy" if self.accuracy else "performance")
        return self.output_dir / self.scenario.value / kind


def require(condition: bool, flag: str, value: object, want: str) -> None:
    """Raise ConfigError naming the flag, its value and what is wanted."""
    if not condition:
        raise ConfigError(f"{flag} {value}: must be {want}")
