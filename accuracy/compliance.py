"""TEST07 and TEST09: the figure of a compliance run, and the files that a submission wants.

The official scripts check neither that every sample is there nor that each was logged once; we do.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

from accuracy.log import EntryError, EntryFinder, parse_entry, read_chunks
from core.audit import Audit
from core.check import Check

LOG = "mlperf_log_accuracy.json"
MAX_NAMED = 3


def output_length(log: Path, audit: Audit) -> Check:
    """TEST09: mean output tokens over all samples of LoadGen's accuracy log."""
    seen: Counter[int] = Counter()
    tokens = 0
    broken: list[str] = []
    finder = EntryFinder(read_chunks(log), log.name)
    with log.open("rb") as file:
        for span in finder:
            file.seek(span.offset)
            try:
                entry = parse_entry(file.read(span.length))
            except EntryError as error:
                broken.append(f"entry at byte {span.offset}: {error}")
                continue
            seen[entry.qsl_idx] += 1
            tokens += len(entry.ids)
    problems = [*broken[:MAX_NAMED], *count_problems(seen, audit.samples)]
    if not finder.closed:
        problems.append(f"{log.name} has no end")
    mean = tokens / seen.total() if seen else 0.0
    return Check("mean output tokens", mean, audit.minimum, audit.maximum, tuple(problems))


def count_problems(seen: Counter[int], samples: int) -> list[str]:
    """What is wrong with how often each sample was logged; empty when each was, once."""
    problems = []
    if len(seen) != samples:
        problems.append(f"{len(seen)} different samples are logged, the test is about {samples}")
    repeated = [index for index, count in seen.items() if count > 1]
    if repeated:
        problems.append(
            f"{len(repeated)} samples are logged more than once, for example {repeated[0]}"
        )
    return problems


def write_report(audit: Audit, check: Check, text: str, run_dir: Path, top: Path) -> Path:
    """Lay out `top` as a submission's TEST folder; `run_dir` below it holds LoadGen's logs."""
    accuracy = top / "accuracy"
    accuracy.mkdir(exist_ok=True)
    try:
        os.link(run_dir / LOG, accuracy / LOG)
    except OSError:  # another file system, or one without links
        shutil.copyfile(run_dir / LOG, accuracy / LOG)
    report = top / audit.report
    lines = [text, check.sentence, *check.problems, "TEST PASS" if check.passed else "TEST FAIL"]
    report.write_text("\n".join(lines).strip() + "\n")
    return report
