"""What is kept of a measurement, and when it need not be made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.chain import Measurement
from cluster.records import (
    Measured,
    is_done,
    load,
    lock_folder,
    passed,
    read_json,
    store,
    write_json,
)
from core.errors import SetupError
from tests.cluster.inputs import measurement

ONE = measurement()


def measured(one: Measurement = ONE) -> Measured:
    return Measured(
        name=one.name,
        words=one.words,
        exit_code=0,
        verdict="VALID",
        folder=one.folder,
        replicas=("http://n1:30000", "http://n2:30000"),
        wanted=2,
        began="2026-01-01T00:00:00+0000",
        ended="2026-01-01T01:00:00+0000",
        job="7",
    )


def kept(folder: Path, found: Measured) -> None:
    """As after its end."""
    store(folder, found)
    write_json(folder / ONE.folder / ONE.summary, {})


def test_what_has_passed_is_done(tmp_path: Path) -> None:
    assert not is_done(tmp_path, ONE) and not passed(tmp_path, ONE.name)
    kept(tmp_path, measured())
    assert load(tmp_path, ONE.name) == measured()
    assert is_done(tmp_path, ONE) and passed(tmp_path, ONE.name)
    assert is_done(tmp_path, replace(ONE, needs=("other",), again=("x",)))


def test_another_command_is_not(tmp_path: Path) -> None:
    kept(tmp_path, measured())
    assert not is_done(tmp_path, replace(ONE, words=(*ONE.words, "--gate")))
    assert not is_done(tmp_path, replace(ONE, name="other"))


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(1, "VALID"), (130, "INTERRUPTED"), (-9, "FAILED"), (0, "UNSCORED"), (0, "UNSCORED, demo")],
)
def test_what_has_not_passed(tmp_path: Path, code: int, verdict: str) -> None:
    found = replace(measured(), exit_code=code, verdict=verdict)
    kept(tmp_path, found)
    assert not found.passed and not passed(tmp_path, ONE.name) and not is_done(tmp_path, ONE)


@pytest.mark.parametrize("verdict", ["VALID", "PASSED", "VALID, UNSCORED", "NOT UNSCORED"])
def test_what_has(verdict: str) -> None:
    assert replace(measured(), verdict=verdict).passed


def test_results_that_are_gone(tmp_path: Path) -> None:
    kept(tmp_path, measured())
    (tmp_path / ONE.folder / ONE.summary).unlink()
    assert passed(tmp_path, ONE.name) and not is_done(tmp_path, ONE)
    (tmp_path / ONE.folder / ONE.summary).mkdir()
    assert not is_done(tmp_path, ONE)


def test_a_record_that_cannot_be_read(tmp_path: Path) -> None:
    kept(tmp_path, measured())
    path = tmp_path / "measured" / f"{ONE.name}.json"
    text = path.read_text()
    content = json.loads(text)
    less = {name: value for name, value in content.items() if name != "verdict"}
    for broken in (text[:40], "", "[]", "3", json.dumps(less), json.dumps(content | {"new": 1})):
        path.write_text(broken)
        assert load(tmp_path, ONE.name) is None, broken
        assert not is_done(tmp_path, ONE) and not passed(tmp_path, ONE.name)
    path.write_bytes(b"\xff\xfe")
    assert load(tmp_path, ONE.name) is None


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    """Nothing else is left, whether writing succeeds or not."""
    path = tmp_path / "below" / "x.json"
    write_json(path, {"a": [1]})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": [1]}
    assert [file.name for file in path.parent.iterdir()] == ["x.json"]
    assert read_json(tmp_path) is None and read_json(tmp_path / "none") is None


def test_one_job_at_a_time(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(SetupError, match="another job works there"):
        lock_folder(tmp_path)
    lock_folder(tmp_path).close()
