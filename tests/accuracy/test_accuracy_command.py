"""`python -m accuracy` and `score_run`: outputs, exit codes, interruption, memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from accuracy import score_run
from accuracy.journal import NAME, open_journal
from accuracy.sample import Sample
from core.errors import ConfigError, RunError, SetupError
from tests.accuracy.answers import (
    encode,
    entry,
    harmony,
    read_json,
    write_log,
    write_reference,
    write_tokenizer,
)

ROOT = Path(__file__).resolve().parents[2]
ROWS = [("aime25", "204"), ("gpqa_diamond", "B"), ("gpqa_diamond", "C"), ("aime25", "7")]
RIGHT = [harmony(r"\boxed{204}"), harmony("B"), harmony("**C**"), harmony("", "Answer: 7")]


class Run:
    """A log with its reference data and tokenizer."""

    def __init__(self, folder: Path, rows: list[tuple[str, object]], entries: list[str]) -> None:
        self.folder = folder
        self.rows = len(rows)
        self.log = write_log(folder / "mlperf_log_accuracy.json", entries)
        self.reference = write_reference(folder / "reference.parquet", rows)
        self.tokenizer = write_tokenizer(folder / "tokenizer")

    def command(self, *more: str) -> list[str]:
        return [
            *(sys.executable, "-m", "accuracy", "--workers", "1"),
            *("--mlperf-log", str(self.log), "--reference-data", str(self.reference)),
            *("--tokenizer", str(self.tokenizer), "--expected", str(self.rows), *more),
        ]

    def start(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(), cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def small(tmp_path: Path) -> Run:
    """Four samples, all answered right."""
    entries = [entry(i, i, encode(text)) for i, text in enumerate(RIGHT)]
    return Run(tmp_path, list(ROWS), entries)


def call(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_that_passes(small: Run) -> None:
    done = call(small.command())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "'exact_match': 100.000"
    assert (small.folder / "accuracy.txt").read_text() == done.stdout
    assert "4/4 samples" in done.stderr or "0/4 samples" in done.stderr
    assert "\r" not in done.stderr
    summary = read_json(small.folder / "accuracy.json")
    assert (summary["score"], summary["passed"], summary["complete"]) == (100.0, True, True)
    table = pq.read_table(small.folder / "samples.parquet").to_pylist()
    assert [row["extracted"] for row in table] == ["204", "B", "C", "7"]
    assert [row["n_tokens"] for row in table] == [len(encode(text)) for text in RIGHT]
    assert not (small.folder / NAME).exists()


def test_a_run_that_fails(small: Run) -> None:
    write_log(small.log, [entry(0, 0, encode("")), entry(1, 1, encode("<|end|>A"))])
    done = call(small.command("--output-dir", str(small.folder / "out")))
    assert done.returncode == 1, done.stderr
    assert "2 of 4 samples are missing: qsl_idx 2, 3" in done.stdout
    assert "exact_match" not in done.stdout
    assert "exact_match" not in (small.folder / "out/accuracy.txt").read_text()


def test_what_cannot_be_scored(small: Run) -> None:
    done = call([*small.command(), "--reference-data", str(small.folder / "no.parquet")])
    assert done.returncode == 2
    assert "no.parquet" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(ConfigError, match="pass --expected 4"):
        score_run(small.log, small.reference, small.tokenizer)
    with pytest.raises(ConfigError, match="give mlperf_log_accuracy"):
        score_run(small.folder / "no.json", small.reference, small.tokenizer, 4)
    lcb = write_reference(small.folder / "lcb.parquet", [("livecodebench_v6", "q")])
    with pytest.raises(SetupError, match="--lcb-problems"):
        score_run(small.log, lcb, small.tokenizer, 1)
    with (small.folder / NAME).open("wb") as held:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another scoring"):
            score_run(small.log, small.reference, small.tokenizer, 4)


def test_every_kind_of_bad_entry(small: Run) -> None:
    bad = ['{ "seq_id" : 9, "qsl_idx" : 0, "data" : "0102" }', entry(5, 4, encode("x"))]
    good = [entry(i, i, encode(text)) for i, text in enumerate(RIGHT)]
    unknown = entry(3, 3, np.array([*encode(RIGHT[3]), 5000], np.int32))
    write_log(small.log, [*good[:2], *bad, good[2], unknown, good[1]])
    small.log.write_text(small.log.read_text().rstrip()[:-1])
    score = score_run(small.log, small.reference, small.tokenizer, 4, workers=1)
    assert score.score is None
    reasons = " | ".join(score.reasons)
    for part in ("no end", "2 entries", "2 bytes", "qsl_idx 4 is out", "more than once: qsl_idx 1"):
        assert part in reasons
    table = pq.read_table(small.folder / "samples.parquet").to_pylist()
    assert [row["reason"] for row in table if row["qsl_idx"] == 3] == [
        "correct; 1 ids are no tokens"
    ]


def test_livecodebench_runs_the_code(tmp_path: Path) -> None:
    """Programs are run against a problem's tests, in the sandbox, from the scoring processes."""
    tests = [{"input": "3\n", "output": "6\n", "testtype": "stdin"}]
    problem = {
        "question_id": "double",
        "public_test_cases": json.dumps(tests),
        "private_test_cases": "[]",
        "metadata": "{}",
    }
    (tmp_path / "lcb.jsonl").write_text(json.dumps(problem) + "\n")
    programs = ["print(int(input()) * 2)", "print(7)", "import os; os.kill(os.getppid(), 9)"]
    run = Run(
        tmp_path,
        [("livecodebench_v6", "double")] * 3,
        [
            entry(i, i, encode(harmony(f"```python\n{code}\n```")))
            for i, code in enumerate(programs)
        ],
    )
    done = call(run.command("--lcb-problems", str(tmp_path / "lcb.jsonl")))
    assert done.returncode == 1, done.stderr
    table = pq.read_table(tmp_path / "samples.parquet").to_pylist()
    assert [(row["extracted"], row["correct"]) for row in table] == [
        (program, program == programs[0]) for program in programs
    ]
    with pytest.raises(ConfigError, match="1 of 1 problems are not there, other for one"):
        other = write_reference(tmp_path / "other.parquet", [("livecodebench_v6", "other")])
        score_run(run.log, other, run.tokenizer, 1, lcb_problems=tmp_path / "lcb.jsonl")


def wait_until(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.002)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130), (signal.SIGINT, 130)]
)
def test_scoring_goes_on_where_it_was_stopped(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    texts = [harmony(r"\boxed{5}", "long " * 1600)] * 400
    run = Run(
        tmp_path,
        [("aime25", "5"), ("aime25", "6")] * 200,
        [entry(i, i, encode(text)) for i, text in enumerate(texts)],
    )
    journal = tmp_path / NAME
    process = run.start()
    wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 20)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    wait_until(lambda: not any(alive(int(child)) for child in children))
    kept = journal.read_bytes()
    journal.write_bytes(kept + b'{"half a line')  # what a kill may leave
    seen: list[int] = []
    score = score_run(
        run.log, run.reference, run.tokenizer, 400, progress=lambda done, _: seen.append(done)
    )
    assert 20 <= seen[0] == kept.count(b"\n") - 1 < 400
    assert score.score == 50.0
    assert score.complete
    assert not journal.exists()


def test_a_journal_of_another_log_is_not_used(small: Run) -> None:
    old = small.log.read_text()
    write_log(small.log, [entry(i, i, encode("wrong")) for i in range(4)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accuracy.run.write_outputs", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_run(small.log, small.reference, small.tokenizer, 4, workers=1)
    assert (small.folder / NAME).exists()
    small.log.write_text(old)
    score = score_run(small.log, small.reference, small.tokenizer, 4, workers=1)
    assert score.score == 100.0


def test_half_a_line_in_the_journal_costs_no_other(tmp_path: Path) -> None:
    samples = [Sample(offset, 0, 0, "correct", 9) for offset in range(3)]
    for number, sample in enumerate(samples):
        with open_journal(tmp_path, {"log": "a"}) as journal:
            assert journal.samples == samples[:number]
            journal.add(sample)
        with (tmp_path / NAME).open("ab") as file:
            file.write(b'{"offset": 7, "seq')
    with open_journal(tmp_path, {"log": "b"}) as journal:
        assert journal.samples == []
    assert (tmp_path / NAME).read_bytes() == b'{"log":"b"}\n'


PEAK = """
import resource, sys
from accuracy.__main__ import main
code = main(sys.argv[1:])
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def peaks_kib(run: Run) -> list[int]:
    """The largest resident sizes of the command and of its largest worker.

    Asked from inside: what wait4 says of a new process begins with the size of its parent.
    """
    arguments = run.command()[3:]
    done = call([sys.executable, "-c", PEAK, *arguments])
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.splitlines()[-1].split()]


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Eight times the entries, 32,768 tokens each, 29 MB more of log: as much memory."""
    ids = encode(harmony(r"\boxed{5}", "long " * 6540))
    peaks = []
    for number in (16, 128):
        folder = tmp_path / str(number)
        folder.mkdir()
        entries = [entry(i, i, ids) for i in range(number)]
        peaks.append(peaks_kib(Run(folder, [("aime25", "5")] * number, entries)))
    few, many = peaks
    assert all(after - before < 10_000 for before, after in zip(few, many, strict=True)), peaks
    assert max(many) < 300_000
