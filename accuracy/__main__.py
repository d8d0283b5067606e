"""`python -m accuracy`: score an accuracy run of gpt-oss-120b.

Exit code 0: complete, and at or above the target; 1: not; 2 to 4: it could not be scored; 130:
interrupted, and the same command goes on. The last line is the one that MLPerf's checker and TEST07
look for; the same as JSON is in accuracy.json.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from accuracy.progress import ScoringProgress
from accuracy.run import score_run
from accuracy.write import render
from core.arguments import natural
from core.errors import HarnessError
from core.rules import ACCURACY_SAMPLES


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print the table, return the exit code."""
    args = _parser().parse_args(argv)
    progress = ScoringProgress()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        score = score_run(
            args.mlperf_log,
            args.reference_data,
            args.tokenizer,
            args.expected,
            args.output_dir,
            lcb_problems=args.lcb_problems,
            workers=args.workers,
            progress=progress,
        )
    except HarnessError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the same command goes on where it stopped\n")
        return 130
    progress.close()
    sys.stdout.write(render(score))
    return score.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, path = parser.add_argument, Path
    add("--mlperf-log", type=path, required=True, help="LoadGen's mlperf_log_accuracy.json")
    add("--reference-data", type=path, required=True, help="parquet or pickle with ground_truth")
    add("--tokenizer", type=path, help="Hugging Face folder; default: openai_harmony's vocabulary")
    add("--lcb-problems", type=path, help="LiveCodeBench's problems with their tests")
    add("--output-dir", type=path, help="where the outputs go; default: the log's folder")
    add("--workers", type=natural, help="processes; default: one per core")
    add("--expected", type=natural, help=f"how many samples; default: {ACCURACY_SAMPLES}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
