"""The command line of run_mlperf.py: flags in, one frozen RunConfig out.

Names and meanings are those of the MLPerf reference for gpt-oss-120b, its newer spellings included.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.detect import parse_url
from core.audit import AUDITS
from core.config import RunConfig, Sampling, Scoring, Timeouts
from core.errors import ConfigError
from core.rules import ACCURACY_MAX_TOKENS, PERFORMANCE_MAX_TOKENS
from core.scenario import Scenario

ROOT = Path(__file__).resolve().parent
DEMONSTRATION = ROOT / "dataset" / "demonstration.parquet"
DEMONSTRATION_CONF = ROOT / "dataset" / "demonstration.conf"
DEMONSTRATION_TOKENIZER = ROOT / "engine" / "checkpoint"
DEMONSTRATION_PROBLEMS = ROOT / "dataset" / "demonstration_problems.jsonl"
DEMONSTRATION_MAX_TOKENS = 48
SAMPLING_KEYS = {"max_new_tokens": "max_tokens", "max_tokens": "max_tokens"} | {
    name: name for name in ("temperature", "top_k", "top_p")
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_mlperf.py",
        description="Run MLPerf inference benchmarks for gpt-oss. Without --input-file and a server, "
        "a demonstration: bundled data and a tiny embedded engine.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    scenarios = [scenario.value for scenario in Scenario]
    add("--mode", "--scenario", choices=scenarios, required=True, help="MLPerf scenario")
    add("--input-file", type=Path, help="tokenized dataset (pickle or parquet file)")
    add("--max-samples", type=int, help="use only the first samples")
    add("--mlperf-conf", type=Path, default=ROOT / "mlperf.conf", help="the rules, as LoadGen keys")
    add("--user-conf", type=Path, help="the submitter's targets (default: user.conf)")
    add("--accuracy", action="store_true", help="accuracy mode instead of performance")
    add("--output-dir", type=Path, default=Path("output"), help="where the run folder goes")
    add("--backend", default="auto", choices=["auto", "sglang", "vllm", "embedded"])
    add(
        "--server-url",
        action="append",
        help="an engine; repeat, or separate by commas, for replicas",
    )
    add(
        "--servers",
        type=Path,
        metavar="FILE",
        help="engines, one URL a line, as run_server.sh writes it; # begins a comment",
    )
    add(
        "--warmup",
        type=int,
        default=2,
        metavar="N",
        help="requests to each replica before the run, unlike the dataset's, in batches that double, "
        "the last of N/2 (default 2; 0: none)",
    )
    add(
        "--warmup-tokens",
        type=int,
        default=0,
        metavar="N",
        help="before that, one prompt at a time of 31, 32, 63, 64 ... N tokens, for engines that "
        "compile kernels for each number of tokens (default 0: none)",
    )
    add("--max-tokens", "--max-new-tokens", type=int, help="most tokens to generate per query")
    add("--temperature", type=float, help="sampling temperature (default 1)")
    add("--top-k", type=int, help="top-k sampling, -1 for off (default)")
    add("--top-p", type=float, help="top-p sampling (default 1)")
    add(
        "--generation-config", type=Path, help="JSON file with sampling settings; flags win over it"
    )
    add(
        "--num-workers",
        type=_auto_or_int,
        default="auto",
        metavar="auto|N",
        help="client processes (default auto: by cores, replicas and rate)",
    )
    add("--max-concurrency", type=int, help="most requests in flight, over all replicas")
    add("--routing", choices=["least-tokens", "round-robin"], default="least-tokens")
    add(
        "--drain",
        type=_drain_ms,
        default="auto",
        metavar="auto|off|MS",
        help="read streams every MS milliseconds once their first token is in: costs less CPU, sees "
        "the end up to MS later (default auto: only at rates where it matters)",
    )
    limits = Timeouts()
    add("--connect-timeout", type=float, default=limits.connect_s, metavar="S")
    add("--first-token-timeout", type=float, default=limits.first_token_s, metavar="S")
    add("--between-tokens-timeout", type=float, default=limits.between_tokens_s, metavar="S")
    add("--total-timeout", "--timeout", type=float, default=limits.total_s, metavar="S")
    add(
        "--gate",
        action="store_true",
        help="score accuracy first; run performance only if it passes",
    )
    add("--accuracy-file", type=Path, help="the gate's dataset, with ground truth")
    add("--compliance", choices=list(AUDITS), help="run a compliance test and verify it")
    add(
        "--tokenizer", type=Path, help="folder of a Hugging Face tokenizer (default: gpt-oss's own)"
    )
    add("--lcb-problems", type=Path, help="LiveCodeBench problems (JSON lines or parquet)")
    add(
        "--calibrate",
        action="store_true",
        help="first replay the schedule against the emulator, to find what this client can drive; "
        "with --dry-run nothing else",
    )
    add("--dry-run", action="store_true", help="print the effective settings and stop")
    return parser


def _auto_or_int(text: str) -> int | None:
    return None if text == "auto" else int(text)


_auto_or_int.__name__ = "number"  # argparse: "invalid number value"


def _drain_ms(text: str) -> float | None:
    return None if text == "auto" else 0.0 if text == "off" else float(text)


_drain_ms.__name__ = "milliseconds"


def parse_options(argv: Sequence[str] | None) -> tuple[RunConfig, bool]:
    """The run's configuration and whether it is only to be printed. Raises ConfigError."""
    args = build_parser().parse_args(argv)
    demonstration = args.input_file is None
    user_conf = args.user_conf or (DEMONSTRATION_CONF if demonstration else ROOT / "user.conf")
    config = RunConfig(
        scenario=Scenario(args.mode),
        accuracy=args.accuracy,
        input_file=args.input_file or DEMONSTRATION,
        demonstration=demonstration,
        mlperf_conf=args.mlperf_conf,
        user_conf=user_conf,
        output_dir=args.output_dir,
        sampling=_sampling(args, demonstration),
        timeouts=Timeouts(
            connect_s=args.connect_timeout,
            first_token_s=args.first_token_timeout,
            between_tokens_s=args.between_tokens_timeout,
            total_s=args.total_timeout,
        ),
        backend=args.backend,
        server_urls=_urls(args.server_url or [], args.servers),
        warmup=args.warmup,
        warmup_tokens=args.warmup_tokens,
        max_samples=args.max_samples,
        num_workers=args.num_workers,
        max_concurrency=args.max_concurrency,
        routing=args.routing,
        drain_ms=args.drain,
        scoring=_scoring(args, demonstration),
        gate=args.gate,
        compliance=args.compliance,
        calibrate=args.calibrate,
    )
    if config.backend == "embedded" and config.server_urls:
        raise ConfigError(
            "--backend embedded starts its own engine: leave --server-url and --servers out"
        )
    _check_combination(config)
    return config, args.dry_run


def _check_combination(config: RunConfig) -> None:
    if config.gate and (config.accuracy or config.compliance):
        raise ConfigError("--gate is for performance runs: leave --accuracy and --compliance out")
    if config.gate and config.scoring.reference is None:
        raise ConfigError("--gate needs the accuracy dataset: add --accuracy-file FILE")
    if config.accuracy and config.compliance:
        raise ConfigError("--accuracy and --compliance are different runs: choose one")


def accuracy_config(config: RunConfig) -> RunConfig:
    """The gate's run: the same engine and targets, the accuracy dataset and its longer answers."""
    assert config.scoring.reference is not None
    sampling = config.sampling
    if not config.demonstration and sampling.max_tokens == PERFORMANCE_MAX_TOKENS:
        sampling = replace(sampling, max_tokens=ACCURACY_MAX_TOKENS)
    return replace(
        config,
        accuracy=True,
        gate=False,
        input_file=config.scoring.reference,
        sampling=sampling,
        max_samples=None,
    )


def _scoring(args: argparse.Namespace, demonstration: bool) -> Scoring:
    if not demonstration:
        return Scoring(args.accuracy_file, args.tokenizer, args.lcb_problems)
    return Scoring(
        args.accuracy_file or DEMONSTRATION,
        args.tokenizer or DEMONSTRATION_TOKENIZER,
        args.lcb_problems or DEMONSTRATION_PROBLEMS,
    )


def _urls(values: Sequence[str], servers: Path | None) -> tuple[str, ...]:
    """The replicas of --server-url and then of --servers. Raises ConfigError."""
    urls = [url.strip() for value in values for url in value.split(",") if url.strip()]
    if len(set(urls)) != len(urls):
        raise ConfigError(f"--server-url {','.join(urls)}: a replica is named twice")
    if servers is not None:
        urls += _servers(servers, urls)
    return tuple(urls)


def _servers(path: Path, named: Sequence[str]) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--servers {path}: cannot be read: {error}") from None
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        url = line.partition("#")[0].strip()
        if url:
            where = f"--servers {path}, line {number}:"
            parse_url(url, where)
            if url in found or url in named:
                raise ConfigError(f"{where} {url}: a replica is named twice")
            found.append(url)
    if not found:
        raise ConfigError(f"--servers {path}: no URL in it: is run_server.sh still starting?")
    return found


def _sampling(args: argparse.Namespace, demonstration: bool) -> Sampling:
    """Flags over --generation-config over the rules' values."""
    if demonstration:
        max_tokens = DEMONSTRATION_MAX_TOKENS
    else:
        max_tokens = ACCURACY_MAX_TOKENS if args.accuracy else PERFORMANCE_MAX_TOKENS
    chosen: dict[str, Any] = {"max_tokens": max_tokens}
    if args.generation_config is not None:
        chosen |= _generation_config(args.generation_config)
    flags = {name: getattr(args, name) for name in ("max_tokens", "temperature", "top_k", "top_p")}
    return Sampling(**chosen | {name: value for name, value in flags.items() if value is not None})


def _generation_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--generation-config {path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--generation-config {path}: expected a JSON object")
    return {
        SAMPLING_KEYS[name]: _number(path, name, value)
        for name, value in content.items()
        if name in SAMPLING_KEYS
    }


def _number(path: Path, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"--generation-config {path}: {name} is {value!r}, not a number")
    return value
