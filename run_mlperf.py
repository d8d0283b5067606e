#!/usr/bin/env python3
"""Measure: run one MLPerf scenario against an engine, print the card, exit with the verdict.

python run_mlperf.py --mode offline                  a demonstration that needs nothing
python run_mlperf.py --mode server --input-file perf_eval_ref.parquet --server-url http://HOST:30000
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from backends import create_backend
from backends.base import Backend
from backends.detect import DEFAULT_URL, Address, EngineInfo, describe, resolve
from backends.embedded import embedded_engine
from client.pool import start_pool
from client.prompts import encode_prompts
from core.config import RunConfig
from core.errors import ConfigError, HarnessError, SetupError
from core.rules import VOCABULARY
from dataset import Dataset, load_dataset
from options import parse_options
from report.card import render_card
from report.progress import ProgressLine
from results.folder import RunFolder
from results.legality import reasons_unofficial
from results.loadgen_log import accuracy_log_complete, read_detail_log
from results.manifest import build_manifest, plain
from results.records import read_raw
from results.summary import Execution, Summary, summarise
from sut.run import TestRun, run_test
from sut.settings import LoadSettings, load_settings

PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Engines:
    """The replicas of a run and the dialect that they all speak."""

    backend: Backend
    addresses: tuple[Address, ...]
    infos: tuple[EngineInfo, ...]

    @property
    def context_length(self) -> int | None:
        lengths = [info.context_length for info in self.infos if info.context_length]
        return min(lengths, default=None)

    @property
    def title(self) -> str:
        version = self.infos[0].version or "unknown version"
        count = f" x {len(self.infos)}" if len(self.infos) > 1 else ""
        return f"{self.backend.name} {version}{count}"


def main(argv: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Slurm's way of saying Ctrl-C
    try:
        config, dry_run = parse_options(argv)
        return show_settings(config) if dry_run else run(config)
    except HarnessError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted before the run began")
        return 130


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show_settings(config: RunConfig) -> int:
    """--dry-run: everything that would be in force, as JSON."""
    dataset = load(config)
    settings = load_settings(config, len(dataset))
    shown = {
        "config": plain(asdict(config)),
        "run_dir": str(config.run_dir),
        "dataset": describe_dataset(dataset),
        "loadgen": settings.as_dict(),
        "not_by_the_rules": list(settings.deviations),
    }
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    return 0


def run(config: RunConfig) -> int:
    """One run from the dataset to the exit code."""
    refuse_audit_config()
    dataset = load(config)
    settings = load_settings(config, len(dataset))
    with open_engines(config) as engines, RunFolder(config.run_dir) as folder:
        if folder.moved:
            say(f"an earlier run was moved to {folder.moved}")
        dataset.check(engines.context_length, config.sampling.max_tokens, VOCABULARY)
        folder.write_json("manifest.json", manifest(config, dataset, engines, settings))
        test = measure(config, dataset, settings, engines, folder)
        unofficial = reasons_unofficial(
            config, len(dataset), [engines.backend.name], settings.deviations
        )
        summary = finish(config, settings, test, folder, unofficial)
    sys.stdout.write(render_card(summary, engines.title, str(folder.path)) + "\n")
    sys.stdout.write(json.dumps({"run_dir": str(folder.path), **summary.to_json()}) + "\n")
    return summary.exit_code


def refuse_audit_config() -> None:
    """LoadGen's default is to obey such a file silently; ours is that there is none."""
    if Path("audit.config").exists():
        raise ConfigError(
            f"audit.config lies in {Path.cwd()}, left over from a compliance run: "
            "remove it, LoadGen-based tools would turn a normal run into an audit"
        )


def load(config: RunConfig) -> Dataset:
    return load_dataset(config.input_file, config.max_samples)


def describe_dataset(dataset: Dataset) -> dict[str, object]:
    return {
        "path": str(dataset.path),
        "sha256": dataset.sha256,
        "samples": len(dataset),
        "prompt_tokens": int(dataset.lengths.sum()),
    }


def manifest(
    config: RunConfig, dataset: Dataset, engines: Engines, settings: LoadSettings
) -> dict[str, object]:
    return build_manifest(
        config,
        describe_dataset(dataset),
        [asdict(info) for info in engines.infos],
        settings.as_dict(),
    )


@contextmanager
def open_engines(config: RunConfig) -> Iterator[Engines]:
    """The engines that the run measures; the embedded one lives as long as the block."""
    if config.server_urls:
        yield probe(config.server_urls, config.backend)
        return
    if config.backend != "embedded":
        try:
            yield probe((DEFAULT_URL,), config.backend)
            return
        except SetupError:
            if config.backend != "auto":
                raise
            say(
                f"no --server-url, and no engine at {DEFAULT_URL}: "
                "using the embedded engine, a tiny model on this machine's CPU"
            )
    with embedded_engine() as url:
        yield probe((url,), "embedded")


def probe(urls: Sequence[str], name: str) -> Engines:
    """Ask every replica what it is; all must speak one dialect."""
    addresses = tuple(resolve(url) for url in urls)
    infos = tuple(describe(address, PROBE_TIMEOUT_S) for address in addresses)
    kinds = {info.kind for info in infos}
    if len(kinds) > 1:
        raise ConfigError(f"--server-url: the replicas are of different kinds: {sorted(kinds)}")
    kind = kinds.pop()
    if name in ("sglang", "vllm") and name != kind:
        raise ConfigError(f"--backend {name}: {urls[0]} answers as {kind}; use --backend {kind}")
    chosen = "embedded" if name == "embedded" else kind
    return Engines(create_backend(chosen, infos[0].model), addresses, infos)


def measure(
    config: RunConfig,
    dataset: Dataset,
    settings: LoadSettings,
    engines: Engines,
    folder: RunFolder,
) -> TestRun:
    """Send the queries."""
    backend = engines.backend
    limit = config.max_concurrency
    if limit is None and not config.scenario.is_timed:
        limit = backend.max_concurrency * len(engines.addresses)
    prompts = encode_prompts(
        [dataset.prompt(i) for i in range(len(dataset))],
        backend,
        config.sampling,
        stream=config.scenario.is_timed,
    )
    progress = ProgressLine()
    try:
        with start_pool(
            config, backend.name, engines.infos[0].model, engines.addresses, prompts, limit
        ) as pool:
            say(f"{config.scenario.value}: {len(dataset)} samples, {engines.title}")
            return run_test(
                config, settings, len(dataset), pool, folder.path, folder.store, progress.show
            )
    finally:
        progress.close()
        prompts.close()


def finish(
    config: RunConfig,
    settings: LoadSettings,
    test: TestRun,
    folder: RunFolder,
    unofficial: tuple[str, ...],
) -> Summary:
    """Turn what was stored into the summary. A disk that is full costs files, never the verdict."""
    crash = test.crash
    records = read_raw(folder.records_path)
    try:
        folder.convert_records()
    except OSError as error:
        crash = crash or f"queries.parquet cannot be written: {error}"
    log = read_detail_log(folder.path)

    def conclude() -> Summary:
        return summarise(config, execution(settings, test, crash, folder), records, log, unofficial)

    summary = conclude()
    try:
        folder.write_json("summary.json", summary.to_json())
    except OSError as error:
        crash = crash or f"summary.json cannot be written: {error}"
        summary = conclude()
    return summary


def execution(
    settings: LoadSettings, test: TestRun, crash: str | None, folder: RunFolder
) -> Execution:
    return Execution(
        returned=test.returned,
        interrupted=test.interrupted,
        crash=crash,
        issued=test.issued,
        reasons=test.reasons,
        scheduled_ns=test.scheduled_ns,
        ttft_limit_ns=settings.ttft_limit_ns,
        tpot_limit_ns=settings.tpot_limit_ns,
        worker_stats=test.worker_stats,
        accuracy_log_complete=accuracy_log_complete(folder.path),
    )


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    # After an interrupt LoadGen's thread still runs, and an interpreter that unwinds under it crashes.
    os._exit(exit_code)
