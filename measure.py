"""One run over engines that are open: dataset, queries, records, judged answers, summary."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from backends.control import CacheReset, reset_caches, unreset
from backends.engines import Engines
from backends.warmup import Warmup, warm_up
from client.plan import Targets, plan_client
from client.pool import ClientPool, start_pool
from client.prompts import encode_prompts
from client.spec import Conduct
from client.workers import expected_answer_tokens
from core.check import Check
from core.config import RunConfig
from core.errors import ConfigError
from core.progress import Progress
from dataset import Dataset, load_dataset
from judge import judge_answers
from report.progress import ProgressLine
from results.engine_rules import MAX_EVENT_SHARE, MIN_EVENT_TOKENS, EngineFacts
from results.engines import read_samples
from results.folder import RunFolder
from results.legality import reasons_unofficial
from results.loadgen_log import accuracy_log_complete, read_detail_log
from results.manifest import build_manifest
from results.records import read_raw
from results.summary import Execution, Judged, Summary, summarise
from sut.run import TestRun, run_test
from sut.settings import LoadSettings, load_settings
from telemetry.look import left_open, look
from telemetry.sample import ReplicaSample


def say(text: str) -> None:
    """A line for the user; stdout belongs to the card."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Plan:
    """A run whose files have been read and found good."""

    config: RunConfig
    dataset: Dataset
    settings: LoadSettings


def prepare(config: RunConfig) -> Plan:
    """Read dataset and settings, once and before any engine is started. Raises ConfigError."""
    dataset = _load(config)
    return Plan(config, dataset, load_settings(config, len(dataset)))


def _load(config: RunConfig) -> Dataset:
    """The run's dataset. Raises ConfigError, also for one that a compliance test does not take."""
    dataset = load_dataset(config.input_file, config.max_samples)
    audit = config.audit
    if audit is not None and len(dataset) != audit.samples:
        raise ConfigError(
            f"--compliance {audit.name}: {config.input_file} has {len(dataset)} samples, the test "
            f"is about {audit.samples}: give that test's own dataset with --input-file"
        )
    return dataset


def describe_dataset(dataset: Dataset) -> dict[str, object]:
    return {
        "path": str(dataset.path),
        "sha256": dataset.sha256,
        "samples": len(dataset),
        "prompt_tokens": int(dataset.lengths.sum()),
    }


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was done to the engines before the run."""

    warmup: Warmup
    caches: tuple[CacheReset, ...]


def measure(plan: Plan, engines: Engines, gate: Check | None = None) -> tuple[Summary, Path]:
    """Run one scenario; gives its summary and folder. Raises HarnessError before queries are sent."""
    config, dataset, settings = plan.config, plan.dataset, plan.settings
    dataset.check(engines.context_length, config.sampling.max_tokens, engines.vocabulary)
    preparation = _prepare_engines(config, dataset, engines)
    with RunFolder(config.run_dir, config.top_dir) as folder:
        if folder.moved:
            say(f"an earlier run was moved to {folder.moved}")
        manifest = _manifest(config, dataset, engines, preparation, settings)
        folder.write_json("manifest.json", manifest)
        _look(engines, folder)
        test = _send(config, dataset, settings, engines, folder)
        _look(engines, folder)
        unofficial = reasons_unofficial(
            config, len(dataset), engines.backend.name, engines.versions, settings.deviations
        )
        summary = _finish(config, settings, test, folder, unofficial, gate, len(dataset), engines)
        return summary, folder.path


def _prepare_engines(config: RunConfig, dataset: Dataset, engines: Engines) -> Preparation:
    """Warm them up, then empty their prefix caches. Raises SetupError naming the replica."""
    for warning in (*engines.differences, *_foreseen(config, engines)):
        say(f"warning: {warning}")
    prompts = [dataset.prompt(i) for i in range(len(dataset))]
    if config.warmup_tokens:
        say(f"warming up: prompts of all lengths up to {config.warmup_tokens} tokens")
    if config.warmup:
        say(f"warming up: {config.warmup} requests to each replica")
    warmup = warm_up(
        engines,
        prompts,
        config.warmup,
        config.sampling,
        config.timeouts.first_token_s,
        config.warmup_tokens,
    )
    caches = reset_caches(engines)
    if not config.accuracy and (stale := unreset(caches)) is not None:
        say(f"warning: {stale}")
    return Preparation(warmup, caches)


def _foreseen(config: RunConfig, engines: Engines) -> Iterator[str]:
    """What will mark a performance run afterwards, said before its ten minutes."""
    if config.accuracy or config.audit is not None:
        return
    if engines.prefix_caching:
        yield "prefix caching is on: the run will be marked where prompts repeat"
    interval, answer = engines.stream_interval or 1, expected_answer_tokens(config)
    if config.scenario.is_timed and interval > max(MIN_EVENT_TOKENS, MAX_EVENT_SHARE * answer):
        yield (
            f"the engine's stream interval is {interval} tokens: the run will be marked if answers "
            f"have {answer:,.0f}, as expected"
        )


def _manifest(
    config: RunConfig,
    dataset: Dataset,
    engines: Engines,
    preparation: Preparation,
    settings: LoadSettings,
) -> dict[str, object]:
    infos = [asdict(info) for info in engines.infos]
    prepared = {**asdict(preparation), "differences": engines.differences}
    return build_manifest(config, describe_dataset(dataset), infos, prepared, settings.as_dict())


def _look(engines: Engines, folder: RunFolder) -> None:
    """Note where the engines' counters stand. What cannot be stored or seen is missing, no more."""
    with suppress(OSError):
        folder.store_samples(_packed(look(engines.urls)))


def _packed(samples: Iterable[ReplicaSample]) -> bytes:
    return b"".join(sample.pack() for sample in samples)


def _send(
    config: RunConfig,
    dataset: Dataset,
    settings: LoadSettings,
    engines: Engines,
    folder: RunFolder,
) -> TestRun:
    """Encode the prompts, start the workers, run LoadGen's test."""
    backend = engines.backend
    plan = plan_client(
        config,
        [address.ip for address in engines.addresses],
        backend.max_concurrency,
        targets(settings, engines, len(dataset)),
    )
    for warning in plan.warnings:
        say(f"warning: {warning}")
    prompts = encode_prompts(
        [dataset.prompt(i) for i in range(len(dataset))],
        backend,
        config.sampling,
        stream=config.scenario.is_timed,
    )
    conduct = Conduct.of(config, backend.name, engines.model)
    progress = ProgressLine()
    try:
        with start_pool(conduct, engines.addresses, prompts, plan) as pool:
            what = config.compliance or ("accuracy" if config.accuracy else "performance")
            say(f"{config.scenario.value}, {what}: {len(dataset)} samples, {engines.title}")
            audit = _write_audit(config, folder)

            def show(now: Progress) -> None:
                progress.show(now)
                _keep_samples(pool, folder)

            return run_test(
                config,
                settings,
                len(dataset),
                pool,
                folder.path,
                folder.store,
                show,
                audit,
            )
    finally:
        progress.close()
        prompts.close()


def _keep_samples(pool: ClientPool, folder: RunFolder) -> None:
    """Store what the engines said meanwhile, so that memory does not grow with the run."""
    folder.store_samples(_packed(pool.take_samples()))


def targets(settings: LoadSettings, engines: Engines, n_samples: int) -> Targets:
    """What the client has to be ready for."""
    return Targets(
        qps=settings.target_qps,
        tokens_per_event=engines.stream_interval or 1,
        ttft_limit_ns=settings.ttft_limit_ns,
        tpot_limit_ns=settings.tpot_limit_ns,
        n_queries=settings.offline_queries(n_samples),
    )


def _write_audit(config: RunConfig, folder: RunFolder) -> Path | None:
    """A compliance test's settings lie with its run, never in the working folder."""
    if config.audit is None:
        return None
    path = folder.path / "audit.config"
    path.write_text(config.audit.config)
    return path


def _finish(
    config: RunConfig,
    settings: LoadSettings,
    test: TestRun,
    folder: RunFolder,
    unofficial: tuple[str, ...],
    gate: Check | None,
    n_samples: int,
    engines: Engines,
) -> Summary:
    """Turn what was stored into the summary. A disk that is full costs files, never the verdict."""
    crash = test.crash
    records, samples = read_raw(folder.records_path), read_samples(folder.samples_path)
    try:
        folder.convert()
    except OSError as error:
        crash = crash or f"queries.parquet or engines.parquet cannot be written: {error}"
    log = read_detail_log(folder.path)
    interrupted = test.interrupted
    check: Check | None = None
    reason: str | None = "the run itself failed"
    if test.returned and not interrupted and not crash and not records["outcome"].any():
        try:
            check, reason = judge_answers(config, folder, n_samples)
        except KeyboardInterrupt:
            interrupted, reason = (
                True,
                "scoring was interrupted; python -m accuracy goes on with it",
            )
    judged = Judged(check, reason, gate)
    broken_off = test.interrupted or crash is not None or bool(records["outcome"].any())
    left = _left_open(engines) if broken_off else {}

    def conclude() -> Summary:
        told = replace(test, interrupted=interrupted)
        execution = _execution(settings, told, crash, folder, engines)
        execution = replace(execution, samples=samples, left_open=left)
        return summarise(config, execution, records, log, unofficial, judged)

    summary = conclude()
    try:
        folder.write_json("summary.json", summary.to_json())
    except OSError as error:
        crash = crash or f"summary.json cannot be written: {error}"
        summary = conclude()
    return summary


def _left_open(engines: Engines) -> dict[str, int]:
    """Requests that engines still have after a run that broke off.

    Our connections are closed, which makes both engines abort our requests. Nothing more is done:
    what is left may be another client's.
    """
    left = left_open(engines.urls)
    for url, count in left.items():
        say(
            f"warning: {url} still has {count} requests: another client's, or it should be restarted"
        )
    return left


def _execution(
    settings: LoadSettings,
    test: TestRun,
    crash: str | None,
    folder: RunFolder,
    engines: Engines,
) -> Execution:
    said = EngineFacts(engines.infos[0].kind, engines.prefix_caching, engines.stream_interval)
    return Execution(
        returned=test.returned,
        interrupted=test.interrupted,
        crash=crash,
        issued=test.issued,
        reasons=test.reasons,
        scheduled_ns=test.scheduled_ns,
        ttft_limit_ns=settings.ttft_limit_ns,
        tpot_limit_ns=settings.tpot_limit_ns,
        workers=test.workers,
        n_workers=test.n_workers,
        loadgen=test.loadgen,
        urls=engines.urls,
        accuracy_log_complete=accuracy_log_complete(folder.path),
        said=said,
    )
