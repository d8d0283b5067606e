"""One sample: from its bytes in the log to a verdict. Runs in the worker processes."""

from __future__ import annotations

import ctypes
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from accuracy.contract import Resources, Scored
from accuracy.log import NO_IDS, Entry, EntryError, Span, parse_entry
from accuracy.registry import scorer
from accuracy.tokenizer import Tokenizer, load_tokenizer
from core.errors import HarnessError, RunError

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker is told once."""

    log: Path
    tokenizer: Path | None
    datasets: tuple[str, ...]
    truths: tuple[object, ...]
    resources: Resources


@dataclass(frozen=True, slots=True)
class Sample:
    """The verdict on one entry of the log. `fault`: no score may rest on a log that holds it."""

    offset: int  # of the entry in the log
    seq_id: int  # -1 where the entry could not be read
    qsl_idx: int
    reason: str
    n_tokens: int
    dataset: str = ""
    ground_truth: str | None = None
    extracted: str | None = None
    correct: bool = False
    final_section: bool = False
    look_alike: bool = False
    fault: bool = False


class Judge:
    """Scores entries; one in each worker process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._file = job.log.open("rb")
        self._tokenizer: Tokenizer = load_tokenizer(job.tokenizer)

    def sample(self, span: Span) -> Sample:
        """Read, decode and score one entry."""
        raw = os.pread(self._file.fileno(), span.length, span.offset)
        try:
            entry = parse_entry(raw)
        except EntryError as error:
            return _unusable(span, Entry(-1, -1, NO_IDS), str(error))
        if not 0 <= entry.qsl_idx < len(self._job.datasets):
            return _unusable(span, entry, f"qsl_idx {entry.qsl_idx} is out of range")
        return self._score(span, entry)

    def _score(self, span: Span, entry: Entry) -> Sample:
        dataset, truth = self._job.datasets[entry.qsl_idx], self._job.truths[entry.qsl_idx]
        answer = self._tokenizer.read(entry.ids)
        scored = scorer(dataset)(answer, truth, self._job.resources)
        return Sample(
            offset=span.offset,
            seq_id=entry.seq_id,
            qsl_idx=entry.qsl_idx,
            reason=self._reason(scored, entry),
            n_tokens=len(entry.ids),
            dataset=dataset,
            ground_truth=None if truth is None else str(truth),
            extracted=scored.extracted,
            correct=scored.correct,
            final_section=answer.final is not None,
            look_alike=answer.look_alike,
            fault=scored.fault,
        )

    def _reason(self, scored: Scored, entry: Entry) -> str:
        if not len(entry.ids):
            return "empty answer: the query failed"
        unknown = self._tokenizer.unknown(entry.ids)
        return f"{scored.reason}; {unknown} ids are no tokens" if unknown else scored.reason


def _unusable(span: Span, entry: Entry, why: str) -> Sample:
    reason = f"entry at byte {span.offset}: {why}"
    n_tokens = len(entry.ids)
    return Sample(span.offset, entry.seq_id, entry.qsl_idx, reason, n_tokens, fault=True)


_judge: Judge | None = None


def start_worker(job: Job) -> None:
    """Make this process a worker: it leaves Ctrl-C to its parent and dies with it."""
    global _judge
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _judge = Judge(job)


def work(span: Span) -> Sample:
    """Score one entry in a worker."""
    assert _judge is not None
    try:
        return _judge.sample(span)
    except HarnessError:
        raise
    except Exception as error:
        raise RunError(f"entry at byte {span.offset}: {type(error).__name__}: {error}") from error
