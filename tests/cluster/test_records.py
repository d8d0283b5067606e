"""What is kept of a measurement, and when it need not be made again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.chain import Measurement
from cluster.plan import Plan
from cluster.records import (
    SMALL,
    Measured,
    is_done,
    load,
    lock_folder,
    read_json,
    stamps,
    store,
    submitted,
    write_json,
)
from tests.cluster.inputs import measurement, plan

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
        system={},
        files={},
        began="2026-01-01T00:00:00+0000",
        ended="2026-01-01T01:00:00+0000",
        job="7",
    )


def kept(folder: Path, found: Measured) -> None:
    """As after its end."""
    store(folder, found)
    write_json(folder / found.folder / ONE.summary, {})


@pytest.fixture
def ours(tmp_path: Path) -> Plan:
    """A plan without anything that would tell its servers from others."""
    return replace(plan(tmp_path), system={}, measurements=(ONE,))


def test_what_has_passed_is_done(tmp_path: Path, ours: Plan) -> None:
    assert not is_done(tmp_path, ours, ONE)
    kept(tmp_path, measured())
    assert load(tmp_path, ONE.name) == measured()
    assert is_done(tmp_path, ours, ONE)
    assert is_done(tmp_path, ours, replace(ONE, needs=("other",), again=("x",)))


def test_another_command_is_not(tmp_path: Path, ours: Plan) -> None:
    kept(tmp_path, measured())
    assert not is_done(tmp_path, ours, replace(ONE, words=(*ONE.words, "--gate")))
    assert not is_done(tmp_path, ours, replace(ONE, name="other"))


def made_with(folder: Path, **settings: Any) -> Plan:
    """The plan of these settings; its measurement is there and has passed."""
    made = plan(folder, **settings)
    (one,) = made.measurements
    found = replace(measured(one), system=made.system, files=stamps(made, one))
    kept(Path(made.folder), found)
    return made


def is_done_with(folder: Path, **settings: Any) -> bool:
    found = plan(folder, **settings)
    return is_done(Path(found.folder), found, found.measurements[0])


SETTINGS: dict[str, Any] = {
    "site": {"environment": {"A": "1"}, "modules": ["m/1"]},
    "servers": {"engine": "emulator", "flags": ["--x"]},
    "nodes": 2,
    "environment": {"B": "1"},
}


@pytest.mark.parametrize(
    "other",
    [
        {"time": "02:00:00"},
        {"warn_s": 7},
        {"nodelist": "n[1-2]"},
        {"servers": SETTINGS["servers"] | {"port": 40_000, "min_replicas": 1, "grace_s": 1}},
        {"site": SETTINGS["site"] | {"partition": "other"}},
        {"site": {"environment": {"A": "1", "B": "2"}, "modules": ["m/1"]}},  # the job's B counts
    ],
)
def test_the_same_settings(tmp_path: Path, other: dict[str, Any]) -> None:
    made_with(tmp_path, **SETTINGS)
    assert is_done_with(tmp_path, **SETTINGS | other)


@pytest.mark.parametrize(
    "other",
    [
        {"servers": {"engine": "embedded", "flags": ["--x"]}},
        {"servers": {"engine": "emulator", "flags": ["--y"]}},
        {"servers": {"engine": "emulator", "flags": ["--x"], "engine_flags": ["--z"]}},
        {"servers": SETTINGS["servers"] | {"model": "m"}},
        {"servers": SETTINGS["servers"] | {"python": "/p"}},
        {"servers": SETTINGS["servers"] | {"replicas_per_node": 3}},
        {"servers": SETTINGS["servers"] | {"exclude_gpus": {"n1": "0"}}},
        {"nodes": 3},
        {"environment": {"B": "2"}},
        {"environment": {}},
        {"site": {"environment": {"A": "2"}, "modules": ["m/1"]}},
        {"site": SETTINGS["site"] | {"modules": ["m/2"]}},
        {"site": SETTINGS["site"] | {"gpus": {"platform": "cuda"}}},
        {
            "site": SETTINGS["site"] | {"container": {"style": "docker", "image": "x"}},
            "container": True,
        },
    ],
)
def test_other_settings(tmp_path: Path, other: dict[str, Any]) -> None:
    made_with(tmp_path, **SETTINGS)
    assert not is_done_with(tmp_path, **SETTINGS | other)


def test_another_image(tmp_path: Path) -> None:
    images = [{"site": {"container": {"style": "enroot", "image": name}}} for name in ("x", "y")]
    first, second = (SETTINGS | {"container": True} | image for image in images)
    made_with(tmp_path, **first)
    assert is_done_with(tmp_path, **first) and not is_done_with(tmp_path, **second)


def test_a_file_that_was_changed(tmp_path: Path) -> None:
    """By its contents, however old it is; a large one by its size and time."""
    conf, data = tmp_path / "user.conf", tmp_path / "data.parquet"
    conf.write_text("a = 1\n")
    data.write_bytes(bytes(SMALL + 1))
    settings = {"user_conf": str(conf), "datasets": {"performance": str(data)}}
    made = made_with(tmp_path, **settings)
    assert set(stamps(made, made.measurements[0])) == {str(conf), str(data)}
    assert is_done_with(tmp_path, **settings)
    times = conf.stat().st_atime_ns, conf.stat().st_mtime_ns
    conf.write_text("a = 2\n")
    os.utime(conf, ns=times)
    assert not is_done_with(tmp_path, **settings)
    conf.write_text("a = 1\n")
    os.utime(conf, (1, 1))
    assert is_done_with(tmp_path, **settings)
    os.utime(data, (1, 1))
    assert not is_done_with(tmp_path, **settings)
    made_with(tmp_path, **settings)
    conf.unlink()
    assert not is_done_with(tmp_path, **settings)


def test_variables_are_not_shown(tmp_path: Path) -> None:
    """Results are passed on, and one may be a password."""
    made = made_with(tmp_path, environment={"NAME": "hush"})
    assert list(made.system["environment"]) == ["NAME"] and "hush" not in made.to_json()


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(1, "VALID"), (130, "INTERRUPTED"), (-9, "FAILED"), (0, "UNSCORED"), (0, "UNSCORED, demo")],
)
def test_what_has_not_passed(tmp_path: Path, ours: Plan, code: int, verdict: str) -> None:
    found = replace(measured(), exit_code=code, verdict=verdict)
    kept(tmp_path, found)
    assert not found.passed and not is_done(tmp_path, ours, ONE)


@pytest.mark.parametrize("verdict", ["VALID", "PASSED", "VALID, UNSCORED", "NOT UNSCORED"])
def test_what_has(verdict: str) -> None:
    assert replace(measured(), verdict=verdict).passed


def test_results_that_are_gone(tmp_path: Path, ours: Plan) -> None:
    kept(tmp_path, measured())
    (tmp_path / ONE.folder / ONE.summary).unlink()
    assert not is_done(tmp_path, ours, ONE)
    (tmp_path / ONE.folder / ONE.summary).mkdir()
    assert not is_done(tmp_path, ours, ONE)


def test_a_record_that_cannot_be_read(tmp_path: Path, ours: Plan) -> None:
    kept(tmp_path, measured())
    path = tmp_path / "measured" / f"{ONE.name}.json"
    text = path.read_text()
    content = json.loads(text)
    less = {name: value for name, value in content.items() if name != "verdict"}
    for broken in (text[:40], "", "[]", "3", json.dumps(less), json.dumps(content | {"new": 1})):
        path.write_text(broken)
        assert load(tmp_path, ONE.name) is None, broken
        assert not is_done(tmp_path, ours, ONE)
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
    held = lock_folder(tmp_path)
    assert held is not None and lock_folder(tmp_path) is None
    held.close()
    again = lock_folder(tmp_path)
    assert again is not None
    again.close()


def test_the_jobs_of_a_folder(tmp_path: Path) -> None:
    assert submitted(tmp_path) == []
    rows = [{"id": "7"}, 3, None, {"script": "x"}, {"id": 8}]
    write_json(tmp_path / "jobs.json", rows)
    assert submitted(tmp_path) == ["7", "8"]
    write_json(tmp_path / "jobs.json", {"id": 1})
    assert submitted(tmp_path) == []
