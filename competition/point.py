"""One point (ISL, OSL, CONC): empty the caches, warm up, measure, judge."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from backends.control import reset_caches, unreset
from backends.engines import Engines
from competition.closed_loop import Loop, Nobody, run_closed_loop
from competition.metrics import Figures, Gpus, point_figures
from competition.power import power_caveats, power_figures, read_energy
from competition.prompts import MIN_OUTPUT, WARMUP, PromptSet, make_prompts
from competition.settings import Settings
from core.errors import ConfigError, RunError, SetupError
from core.outcome import Outcome
from report.progress import ProgressLine
from results.engine_rules import MAX_HIT_RATE, REMEDIES, EngineFacts, reasons_streaming
from results.engines import EngineLoads, engine_loads, read_samples
from results.folder import RunFolder
from results.headroom import judge_headroom
from results.latency import succeeded
from results.manifest import build_environment, plain
from results.streams import gap_counts
from telemetry.look import look
from telemetry.power import PowerMeter, open_meter

Say = Callable[[str], None]
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """One point, measured. It counts only without `reasons`."""

    started: str  # ISO 8601, UTC
    figures: Figures
    power: dict[str, Any]  # energy and its source; empty where none was asked for
    reasons: tuple[str, ...]  # why it does not count
    warnings: tuple[str, ...]
    failures: dict[str, list[str]]  # outcome -> some of its reasons
    seed: tuple[int, ...]
    warmups: int
    engines: EngineLoads
    client: dict[str, Any]  # how busy the harness was
    interrupted: bool


def check_fit(settings: Settings, engines: Engines) -> None:
    """Refuse what the engine cannot serve, before anything is sent. Raises ConfigError."""
    if settings.lengths.osl < MIN_OUTPUT:
        raise ConfigError(f"OSL {settings.lengths.osl}: at least {MIN_OUTPUT}, or there is no TPOT")
    need = sum(settings.lengths)
    limits = (("MAX_MODEL_LEN", settings.max_model_len), ("the server's", engines.context_length))
    for name, limit in limits:
        if limit is not None and need > limit:
            raise ConfigError(
                f"ISL/OSL {settings.lengths}: needs a context of {need} tokens, {name} is {limit}: "
                "serve the model with a larger MAX_MODEL_LEN"
            )
    model = engines.model
    if model is not None and model.rstrip("/") != settings.model.rstrip("/"):
        raise ConfigError(
            f"MODEL {settings.model}: the server at {engines.urls[0]} serves {model}: is it the "
            "right one? Then export MODEL with its name"
        )


def check_place(settings: Settings) -> None:
    """Refuse a place for results that cannot be used. Raises ConfigError or SetupError."""
    folder = settings.result
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise ConfigError(
            f"RESULT_FILENAME {folder}: there is a folder of that name with other things in it: "
            "choose another name"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
    except OSError as error:
        raise SetupError(
            f"{folder.parent}: results cannot be written there ({error.strerror})"
        ) from None


def measure_point(settings: Settings, engines: Engines, say: Say) -> Measured:
    """Measure. Raises HarnessError for what goes wrong beside the requests themselves."""
    check_fit(settings, engines)
    try:
        return _measure_point(settings, engines, say)
    except OSError as error:  # a full disk, too few descriptors
        raise RunError(f"{settings.result}: could not be measured or stored: {error}") from None


def _measure_point(settings: Settings, engines: Engines, say: Say) -> Measured:
    meter = open_meter(settings.power_gpus) if settings.power_gpus else None
    stale = unreset(reset_caches(engines))
    seed = _seed(settings, engines, stale)
    n_warmups = settings.concurrency * settings.profile.warmups_per_concurrency
    measured = _prompts(settings, engines, settings.n_prompts, seed)
    with RunFolder(settings.result) as folder:
        if folder.moved:
            say(f"an earlier run was moved to {folder.moved}")
        folder.write_json(MANIFEST, _manifest(settings, engines, seed))
        if n_warmups:
            say(f"warming up: {n_warmups} requests")
            _warm_up(_prompts(settings, engines, n_warmups, (*seed, WARMUP)), settings, engines)
        say(f"measuring: {settings.n_prompts} requests, {settings.concurrency} at a time")
        started = datetime.now(UTC).isoformat(timespec="seconds")
        loop, loads = _measure(settings, engines, measured, folder, meter)
    gpus = Gpus(settings.profile.gpus_per_node, settings.gpus_used)
    client, limited = _client(loop, settings)
    figures = point_figures(loop.records, gap_counts(loop.workers), gpus)
    energy, unmetered = read_energy(meter)
    return Measured(
        started=started,
        figures=figures,
        power=power_figures(settings, energy, figures),
        reasons=(*_reasons(loop, measured, engines, loads), *_unstreamed(figures), *unmetered),
        warnings=(
            *settings.warnings,
            *engines.differences,
            *((stale,) if stale else ()),
            *_unchecked(engines, loads),
            *loop.warnings,
            *limited,
            *power_caveats(settings),
        ),
        failures=loop.reasons,
        seed=seed,
        warmups=n_warmups,
        engines=loads,
        client=client,
        interrupted=loop.interrupted,
    )


def _seed(settings: Settings, engines: Engines, stale: str | None) -> tuple[int, ...]:
    """Of the prompts; with the time in it where a cache may hold those of an earlier run."""
    seed = (settings.seed, *settings.lengths, settings.concurrency)
    return seed if stale is None else (*seed, int(time.time()))


def _prompts(settings: Settings, engines: Engines, n: int, seed: tuple[int, ...]) -> PromptSet:
    vocabulary = min(settings.profile.vocabulary, engines.vocabulary)
    return make_prompts(
        settings.lengths, n, ratio=settings.range_ratio, vocabulary=vocabulary, seed=seed
    )


def _warm_up(prompts: PromptSet, settings: Settings, engines: Engines) -> None:
    """At the measured concurrency, with answers of full length. Raises RunError."""
    loop = run_closed_loop(engines, prompts, settings.concurrency, Nobody())
    if loop.interrupted:
        raise KeyboardInterrupt
    if loop.reasons:
        what = "; ".join(f"{name}: {reasons[0]}" for name, reasons in loop.reasons.items())
        raise RunError(f"a warm-up request failed ({what}): look into the server's log")


def _measure(
    settings: Settings,
    engines: Engines,
    prompts: PromptSet,
    folder: RunFolder,
    meter: PowerMeter | None,
) -> tuple[Loop, EngineLoads]:
    report = _Stored(folder, engines.urls)
    report.look()
    try:
        loop = run_closed_loop(engines, prompts, settings.concurrency, report, meter)
    finally:
        report.close()
    report.look()
    samples = read_samples(folder.samples_path)
    folder.convert()
    begin, end = _window(loop)
    return loop, engine_loads(samples, engines.urls, begin, end)


class _Stored:
    """Shows the progress and stores everything as it comes."""

    def __init__(self, folder: RunFolder, urls: Sequence[str]) -> None:
        self._line, self._urls = ProgressLine(), urls
        self.progress, self.close = self._line.show, self._line.close
        self.records, self.samples = folder.store, folder.store_samples

    def look(self) -> None:
        """Note where the engines' counters stand. What cannot be seen is missing, no more."""
        with suppress(OSError):
            self.samples(b"".join(sample.pack() for sample in look(self._urls)))


def _window(loop: Loop) -> tuple[int, int]:
    records = loop.records
    return (int(records["due_ns"].min()), int(records["done_ns"].max())) if len(records) else (0, 0)


def _reasons(loop: Loop, prompts: PromptSet, engines: Engines, loads: EngineLoads) -> list[str]:
    """Why the point does not count."""
    found = []
    if loop.interrupted:
        found.append("interrupted")
    failed = np.bincount(loop.records["outcome"], minlength=len(Outcome))
    for outcome in Outcome:
        if outcome is not Outcome.OK and failed[outcome] and outcome is not Outcome.CANCELLED:
            first = loop.reasons.get(outcome.label, [""])[0]
            found.append(f"{failed[outcome]} requests failed: {outcome.label}: {first}")
    good = succeeded(loop.records)
    wanted = np.array(prompts.output_lengths)[good["index"]]
    if short := int(np.count_nonzero(good["n_tokens"] != wanted)):
        found.append(
            f"{short} answers are not as long as asked for: the engine does not obey ignore_eos"
        )
    kind = engines.infos[0].kind
    said = EngineFacts(kind, engines.prefix_caching, engines.stream_interval)
    found += reasons_streaming(said, good)
    rate = loads.all.prefix_hit_rate
    if rate is not None and rate > MAX_HIT_RATE:
        found.append(
            f"{100 * rate:.1f} % of the prompt tokens came from the prefix cache, so they were not "
            f"computed: start the engine with {REMEDIES[kind]}"
        )
    return found


def _unchecked(engines: Engines, loads: EngineLoads) -> Iterator[str]:
    if loads.all.prefix_hit_rate is None and engines.prefix_caching is not False:
        yield (
            "the engine does not say what came from its prefix cache, nor that it has none: start it "
            f"without one ({REMEDIES[engines.infos[0].kind]}), or with metrics"
        )


def _unstreamed(figures: Figures) -> Iterator[str]:
    """A TPOT of 0 is no infinite speed."""
    if figures["completed"] and not figures["median_tpot_ms"]:
        yield (
            "half of the answers came whole, in a single read, so that TPOT is 0: start the engine "
            "with a smaller stream interval, or measure longer answers"
        )


def _client(loop: Loop, settings: Settings) -> tuple[dict[str, Any], tuple[str, ...]]:
    begin, end = _window(loop)
    headroom = judge_headroom(
        loop.workers,
        loop.main,
        None,
        0,
        (end - begin) / 1e9,
        n_workers=loop.n_workers,
        max_concurrency=settings.concurrency,
        by_answers=False,
    )
    limited = tuple(f"limited by the harness: {reason}" for reason in headroom.reasons)
    return asdict(headroom), limited


def _manifest(settings: Settings, engines: Engines, seed: tuple[int, ...]) -> dict[str, Any]:
    shown = {
        "profile": settings.profile.name,
        "model": settings.model,
        "urls": settings.urls,
        "tp": settings.tp,
        "isl": settings.lengths.isl,
        "osl": settings.lengths.osl,
        "conc": settings.concurrency,
        "max_model_len": settings.max_model_len,
        "range_ratio": settings.range_ratio,
        "num_prompts": settings.n_prompts,
        "power_gpus": settings.power_gpus,
        "seed": seed,
    }
    infos = [asdict(info) for info in engines.infos]
    return {"config": plain(shown), "engines": infos, **build_environment()}
