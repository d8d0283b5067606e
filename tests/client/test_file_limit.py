"""More streams than the soft limit of open files: those who hold them raise it to the hard one."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from bench.memory import SPARE_DESCRIPTORS, processes_for
from client.preflight import read_limits
from core.files import most_files, raise_file_limit
from tests.harness import emulator, run_mlperf, write_conf, write_dataset

SOFT, STREAMS = 128, 300


@pytest.fixture
def few_files() -> Iterator[int]:
    """A low soft limit for this process and its children; the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_is_raised_to_the_hard_one(few_files: int) -> None:
    assert most_files() == (None if few_files == resource.RLIM_INFINITY else few_files)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == SOFT  # to look changes nothing
    assert raise_file_limit() == most_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few_files, few_files)


@pytest.mark.parametrize(
    ("hard", "files", "processes"),
    [(resource.RLIM_INFINITY, None, 1), (1000 + SPARE_DESCRIPTORS, 1500, 3)],
)
def test_infinity_is_no_limit(
    monkeypatch: pytest.MonkeyPatch, hard: int, files: int | None, processes: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (SOFT, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    assert most_files() == raise_file_limit() == read_limits().files == files
    assert processes_for(2001) == processes


def test_a_worker_and_an_engine_hold_more_streams_than_the_soft_limit(
    tmp_path: Path, few_files: int
) -> None:
    conf = ("*.*.min_duration = 0", f"*.*.min_query_count = {STREAMS}")
    flags = [
        *("--input-file", str(write_dataset(tmp_path / "d.parquet", n=STREAMS))),
        *("--user-conf", str(write_conf(tmp_path / "u.conf", *conf))),
        *("--max-concurrency", str(STREAMS), "--num-workers", "1", "--max-tokens", "2"),
    ]
    with emulator("--dialect", "vllm", "--ttft-ms", "3000", "--osl", "2") as engine:
        run = run_mlperf("offline", tmp_path, "--server-url", engine.url, *flags)
        truth = engine.truth()
    assert run.code == 0 and not run.summary["failures"], run.stdout + run.stderr
    events = [(entry["arrived_ns"], 1) for entry in truth]
    events += [(entry["done_ns"], -1) for entry in truth]
    assert max(accumulate(step for _, step in sorted(events))) > SOFT
