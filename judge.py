"""Judging a run's answers: an accuracy run's score, a compliance test's verdict."""

from __future__ import annotations

import sys

from accuracy.compliance import LOG, output_length, write_report
from accuracy.progress import ScoringProgress
from accuracy.run import score_run
from accuracy.tally import Score
from accuracy.write import render
from core.check import Check
from core.config import RunConfig
from core.errors import HarnessError
from results.folder import RunFolder


def judge_answers(
    config: RunConfig, folder: RunFolder, samples: int
) -> tuple[Check | None, str | None]:
    """The check of the answers that LoadGen logged, or why they could not be judged.

    A performance run has neither: its answers are not logged.
    """
    audit = config.audit
    try:
        if audit is None:
            return (_accuracy(config, folder, samples), None) if config.accuracy else (None, None)
        if audit.name == "TEST09":
            check, text = output_length(folder.path / LOG, audit), ""
        else:
            check, text = _exact_match(config, folder, samples, audit.minimum)
        write_report(audit, check, text, folder.path, folder.top)
    except HarnessError as error:
        return None, f"not scored: {error}"
    return check, None


def _accuracy(config: RunConfig, folder: RunFolder, samples: int) -> Check:
    score = _score(config, folder, samples)
    sys.stdout.write(render(score))
    return _check(score, score.target)


def _exact_match(
    config: RunConfig, folder: RunFolder, samples: int, minimum: float
) -> tuple[Check, str]:
    score = _score(config, folder, samples)
    return _check(score, minimum), render(score)


def _score(config: RunConfig, folder: RunFolder, samples: int) -> Score:
    progress = ScoringProgress()
    try:
        return score_run(
            folder.path / LOG,
            config.input_file,
            config.scoring.tokenizer,
            samples,
            lcb_problems=config.scoring.lcb_problems,
            progress=progress,
        )
    finally:
        progress.close()


def _check(score: Score, minimum: float) -> Check:
    return Check("exact_match", score.score or 0.0, minimum, None, score.problems)
