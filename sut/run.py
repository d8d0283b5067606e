"""One LoadGen test from start to end.

`StartTest` runs on a second thread, because Ctrl-C never reaches a main thread that is inside it. The
main thread stores records, shows progress and watches for interrupts meanwhile.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import mlperf_loadgen as lg

from client.busy import BusyMeter
from client.pool import ClientPool
from core.account import ProcessAccount, WorkerAccount
from core.config import RunConfig
from core.progress import Progress
from sut.bridge import Bridge
from sut.schedule import Schedule
from sut.settings import LoadSettings, log_settings

TICK_S = 0.25
SWITCH_S = 1e-4
CANCEL_GRACE_S = 3.0  # LoadGen cannot be stopped: a Server run goes on with its schedule
NO_AUDIT = "no-audit.config"  # a name that does not exist in the run folder


@dataclass(frozen=True, slots=True)
class TestRun:
    """What happened, beside the records and LoadGen's logs."""

    returned: bool  # LoadGen came back; else the process must end without unwinding
    interrupted: bool
    crash: str | None  # the harness's own failure
    issued: int
    reasons: dict[str, list[str]]  # outcome -> some of its reasons
    workers: tuple[WorkerAccount, ...]  # of those that could still give one
    n_workers: int  # that were started
    loadgen: ProcessAccount  # of this process
    scheduled_ns: int | None  # the schedule's length by our reckoning; None in Offline


def run_test(
    config: RunConfig,
    settings: LoadSettings,
    n_samples: int,
    pool: ClientPool,
    log_dir: Path,
    store: Callable[[bytes], None],
    show: Callable[[Progress], None],
    audit: Path | None = None,
) -> TestRun:
    """Run LoadGen's test over `pool`, its logs in `log_dir`. Never raises for what queries do.

    `audit` is the file with a compliance test's settings.
    """
    schedule = _schedule(config, settings)
    bridge = Bridge(pool, schedule)
    # An event, because a Thread.join that Ctrl-C interrupts takes the thread for ended (CPython 3.11).
    ended = threading.Event()
    test = threading.Thread(
        target=_start_test,
        args=(bridge, settings, n_samples, log_dir, audit or log_dir / NO_AUDIT, ended),
        name="loadgen",
        daemon=True,
    )
    meter = BusyMeter()
    watch = _Watch(bridge, meter, _total(config, settings, schedule, n_samples), store, show)
    with _undisturbed():
        meter.start()
        bridge.start()
        test.start()
        interrupted = watch.until_ended(ended)
    returned = ended.is_set()
    if returned:
        bridge.stop()
    # The completion thread's counts are its own while it runs.
    loadgen = meter.account("LoadGen", bridge.turn_counts if returned else ())
    with suppress(OSError):
        watch.tick()
    return TestRun(
        returned=returned,
        interrupted=interrupted,
        crash=bridge.crash,
        issued=bridge.issued,
        reasons={outcome.label: reasons for outcome, reasons in bridge.reasons.items()},
        workers=tuple(pool.close()) if returned else (),
        n_workers=len(pool.workers),
        loadgen=loadgen,
        scheduled_ns=schedule.due_ns(bridge.issued) if schedule else None,
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection, and threads that give way quickly.

    A collection stops every thread, for longer the more there is in memory. What a test makes has no
    cycles, so nothing piles up; what was made before is kept out of later collections as well.
    LoadGen's thread gets the interpreter from the completion thread within SWITCH_S.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.enable()


def _schedule(config: RunConfig, settings: LoadSettings) -> Schedule | None:
    if not config.scenario.is_timed:
        return None
    return Schedule(settings.target_qps, settings.loadgen.schedule_rng_seed)


def _total(
    config: RunConfig, settings: LoadSettings, schedule: Schedule | None, n_samples: int
) -> int | None:
    loadgen = settings.loadgen
    if config.audit is not None:
        return config.audit.samples
    if config.accuracy:
        return int(loadgen.accuracy_sample_count_override)
    if schedule is None:
        return None  # known with the first and only issue
    samples = min(loadgen.performance_sample_count_override, n_samples)
    return schedule.count(loadgen.min_duration_ms * 1_000_000, loadgen.min_query_count, samples)


def _start_test(
    bridge: Bridge,
    settings: LoadSettings,
    n_samples: int,
    log_dir: Path,
    audit: Path,
    ended: threading.Event,
) -> None:
    try:
        _test(bridge, settings, n_samples, log_dir, audit)
    except Exception:  # noqa: BLE001 - the main thread waits for the end and reports the crash
        bridge.crash = traceback.format_exc()
    finally:
        ended.set()


def _test(
    bridge: Bridge, settings: LoadSettings, n_samples: int, log_dir: Path, audit: Path
) -> None:
    # Request bodies are made before the run, so there is nothing to load.
    qsl = lg.ConstructQSL(n_samples, n_samples, lambda _: None, lambda _: None)
    sut = lg.ConstructSUT(bridge.issue, bridge.flush)
    lg.StartTestWithLogSettings(sut, qsl, settings.loadgen, log_settings(log_dir), str(audit))
    lg.DestroySUT(sut)
    lg.DestroyQSL(qsl)


class _Watch:
    """The main thread's work during a test."""

    def __init__(
        self,
        bridge: Bridge,
        meter: BusyMeter,
        total: int | None,
        store: Callable[[bytes], None],
        show: Callable[[Progress], None],
    ) -> None:
        self._bridge = bridge
        self._meter = meter
        self._total = total
        self._store = store
        self._show = show
        self._began = time.monotonic()

    def until_ended(self, ended: threading.Event) -> bool:
        """Wait for the test's end; True if it was interrupted."""
        interrupted = False
        try:
            while not ended.wait(TICK_S) and self._bridge.crash is None:
                self.tick()
        except KeyboardInterrupt:
            interrupted = True
            # From here on the end takes seconds; another Ctrl-C would only lose records.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        except OSError as error:
            self._bridge.crash = f"the run was stopped: its records cannot be stored: {error}"
        if not ended.is_set():
            self._bridge.cancel()
            ended.wait(CANCEL_GRACE_S)
        return interrupted

    def tick(self) -> None:
        bridge = self._bridge
        self._meter.sample()
        records = bridge.take_records()
        if records:
            self._store(records)
        self._show(
            Progress(
                elapsed_s=time.monotonic() - self._began,
                total=self._total or bridge.issued or None,
                issued=bridge.issued,
                done=bridge.done,
                failed=sum(bridge.failures.values()),
                tokens=bridge.tokens,
            )
        )
