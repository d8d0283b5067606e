"""One job's course, with something in place of its servers; and the lock of its folder."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.chain import Measurement
from cluster.drive import command, job
from cluster.drive.command import main
from cluster.plan import Plan
from cluster.records import Measured, read_json, stamps, store, write_json
from tests.cluster.inputs import plan

ENVIRON = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"}
AGAIN = ENVIRON | {"SLURM_RESTART_COUNT": "1"}
CHAIN = [{"scenario": "offline", "kind": "accuracy"}, {"scenario": "offline"}]


class Servers:
    """All are there at once."""

    count, wanted = 2, 2
    left_out: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None: ...

    def check(self) -> None: ...

    def prepare(self) -> None: ...

    def start(self, again: bool) -> None: ...

    def wait_until_ready(self) -> None: ...

    def living(self) -> list[str]:
        return ["http://n1:30000"]

    def watch(self) -> None: ...


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The measurements that were made, all of which pass."""
    names: list[str] = []

    def measure(
        made: Plan, one: Measurement, urls: Sequence[str], wanted: int, *_: object
    ) -> Measured:
        names.append(one.name)
        return passed(made, one)

    monkeypatch.setattr(job, "Servers", Servers)
    monkeypatch.setattr(job, "measure", measure)
    return names


def passed(of: Plan, one: Measurement) -> Measured:
    write_json(Path(of.folder) / one.folder / one.summary, {})
    return Measured(
        name=one.name,
        words=one.words,
        exit_code=0,
        verdict="VALID",
        folder=one.folder,
        replicas=("http://n1:30000",),
        wanted=1,
        system=of.system,
        files=stamps(of, one),
        began="2026-01-01T00:00:00+0000",
        ended="2026-01-01T01:00:00+0000",
        job="6",
    )


def drive(of: Plan, environ: dict[str, str] = ENVIRON) -> int:
    file = Path(of.folder).parent / "plan"
    Path(of.folder).mkdir(parents=True, exist_ok=True)
    file.write_text(of.to_json())
    return main([str(file)], environ)


def test_a_chain_is_made_once(tmp_path: Path, made: list[str]) -> None:
    found = plan(tmp_path, measure=CHAIN)
    names = ["offline-accuracy", "offline-performance"]
    assert (drive(found), made) == (0, names)
    assert (drive(found), made) == (0, names), "they are done"
    other = plan(tmp_path, measure=CHAIN, environment={"A": "1"})
    assert (drive(other), made) == (0, names * 2), "on servers with another environment"
    assert read_json(Path(other.folder) / "plan.json")["system"] == other.system


def second(folder: Path, **settings: Any) -> Plan:
    """The job of the chain's second measurement, which needs the first."""
    return replace(plan(folder, measure=CHAIN, **settings), here=("offline-performance",))


def test_what_is_needed_must_be_of_these_settings(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = plan(tmp_path, measure=CHAIN)
    store(Path(first.folder), passed(first, first.measurements[0]))
    assert drive(second(tmp_path, servers={"engine": "embedded"})) == 1 and made == []
    out, errors = capsys.readouterr()
    assert "offline-performance: not started: offline-accuracy has not passed" in errors
    assert "VALID, of other settings" in out and "not measured" in out
    assert drive(second(tmp_path)) == 0 and made == ["offline-performance"]


@contextmanager
def locked(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """By another process, which ends when its input does."""
    folder.mkdir(parents=True)
    held = ["flock", str(folder / ".lock"), "sh", "-c", "echo held; read -r _"]
    with subprocess.Popen(
        held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdin and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            if not process.stdin.closed:
                process.stdin.close()


@pytest.fixture
def done(tmp_path: Path) -> Plan:
    """There is nothing to do for it."""
    return replace(plan(tmp_path), here=())


def test_another_job_works_there(done: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    """A first start does not wait for it."""
    with locked(Path(done.folder)):
        began = time.monotonic()
        assert drive(done) == 3 and time.monotonic() - began < 20
    assert f"error: {done.folder}: another job works there" in capsys.readouterr().err
    assert not (Path(done.folder) / "plan.json").exists()
    assert drive(done) == 0


def test_a_restart_waits_for_the_lock_of_a_lost_node(done: Plan) -> None:
    with locked(Path(done.folder)) as other:
        assert other.stdin
        timer = threading.Timer(0.5, other.stdin.close)
        timer.start()
        assert drive(done, AGAIN) == 0
        timer.join()


def test_but_not_for_ever(done: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LOCK_S", 0.1)
    with locked(Path(done.folder)):
        assert drive(done, AGAIN) == 3
