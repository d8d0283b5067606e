"""Scoring a run: every core, one entry at a time, and an end that can be taken up again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from accuracy.contract import Resources
from accuracy.journal import NAME, Journal, journal_key, open_journal
from accuracy.lcb_problem import Problem, load_problems
from accuracy.log import EntryFinder, Span, read_chunks
from accuracy.reference import Reference, load_reference
from accuracy.registry import scorer_name
from accuracy.sample import Job, Sample, start_worker, work
from accuracy.tally import Score, tally
from accuracy.tokenizer import load_tokenizer
from accuracy.write import write_outputs
from core.errors import ConfigError, RunError, SetupError

__all__ = ["Score", "score_run"]

_AHEAD = 4  # entries in flight per worker
Progress = Callable[[int, int], None]  # samples done, samples expected


def score_run(
    log: Path,
    reference: Path,
    tokenizer: Path | None = None,
    expected: int | None = None,
    output_dir: Path | None = None,
    *,
    lcb_problems: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Score:
    """Score LoadGen's accuracy log against the reference data, write the outputs, return the score.

    tokenizer: a Hugging Face folder; None: gpt-oss's, from openai_harmony. expected: how many
    samples, the reference's first ones; None: MLPerf's 4,395 and no other. output_dir: None: the
    log's folder. Raises ConfigError and SetupError before the first sample, RunError when scoring
    itself breaks; scoring again then goes on where it stopped.
    """
    rows = load_reference(reference, expected)
    _check(log, tokenizer)
    resources = Resources(_lcb_problems(lcb_problems, rows))
    job = Job(log, tokenizer, rows.datasets, rows.truths, resources)
    directory = output_dir or log.parent
    directory.mkdir(parents=True, exist_ok=True)
    with open_journal(directory, journal_key(job, rows, lcb_problems)) as journal:
        finder = EntryFinder(read_chunks(log), str(log))
        _judge_all(job, finder, journal, workers or os.cpu_count() or 1, progress)
        score = tally(journal.samples, rows, closed=finder.closed)
        write_outputs(directory, score, journal.samples)
        (directory / NAME).unlink()
    return score


def _check(log: Path, tokenizer: Path | None) -> None:
    """Find out what is missing before the first sample, not after an hour."""
    if not log.is_file():
        raise ConfigError(f"--mlperf-log {log}: not there; give mlperf_log_accuracy.json")
    load_tokenizer(tokenizer)


def _lcb_problems(path: Path | None, rows: Reference) -> Mapping[str, Problem]:
    """The index of LiveCodeBench's problems, if any are asked: read once, sent to every worker."""
    asked = {
        truth
        for name, truth in zip(rows.datasets, rows.truths, strict=True)
        if scorer_name(name) == "livecodebench_v6" and truth
    }
    if not asked:
        return {}
    if path is None:
        raise SetupError("LiveCodeBench answers need --lcb-problems with the problems' tests")
    problems = load_problems(path)
    missing = sorted(map(str, asked - set(problems)))
    if missing:
        raise ConfigError(
            f"--lcb-problems {path}: {len(missing)} of {len(asked)} problems are not there, "
            f"{missing[0]} for one; give release_v6, whole"
        )
    return problems


def _judge_all(
    job: Job, finder: EntryFinder, journal: Journal, workers: int, progress: Progress | None
) -> None:
    """Judge what the journal does not hold yet."""
    done = {sample.offset for sample in journal.samples}
    spans = (span for span in finder if span.offset not in done)
    show = progress or (lambda done, expected: None)
    show(len(done), len(job.datasets))
    with _pool(job, workers) as pool:
        for sample in _in_flight(pool, spans, workers * _AHEAD):
            journal.add(sample)
            show(len(journal.samples), len(job.datasets))


def _in_flight(pool: ProcessPoolExecutor, spans: Iterator[Span], limit: int) -> Iterator[Sample]:
    """Yield samples as they are judged, never holding more than `limit` entries."""
    pending: set[Future[Sample]] = set()
    while True:
        pending |= {pool.submit(work, span) for span in islice(spans, limit - len(pending))}
        if not pending:
            return
        ready, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in ready:
            yield future.result()


@contextmanager
def _pool(job: Job, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that are gone at the end, also at a bad one."""
    pool = ProcessPoolExecutor(workers, get_context("spawn"), start_worker, (job,))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise RunError(
            "a scoring process died (out of memory?); score again, with fewer --workers: "
            "it goes on where it stopped"
        ) from error
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
