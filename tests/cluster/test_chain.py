"""What a job measures: its measurements, what each needs, what is missing or twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.chain import Measurement
from cluster.job import read_job
from core.errors import ConfigError
from tests.cluster.inputs import job_file

DATASETS = {"accuracy": "/d/acc", "performance": "/d/perf", "TEST07": "/d/seven"}
KINDS = ("accuracy", "performance", "TEST07", "TEST09")
SUBMISSION: dict[str, Any] = {
    "measure": None,
    "datasets": DATASETS,
    "submission": ["offline", "server"],
}


def chain(folder: Path, **changed: object) -> tuple[Measurement, ...]:
    return read_job(job_file(folder, **changed)).chain


def needs(found: tuple[Measurement, ...]) -> dict[str, tuple[str, ...]]:
    return {one.name: one.needs for one in found}


def test_a_submission(tmp_path: Path) -> None:
    job = read_job(job_file(tmp_path, **SUBMISSION, user_conf="u.conf", flags=["--x"]))
    user_conf = tmp_path.resolve() / "u.conf"
    assert needs(job.chain) == {
        f"{scenario}-{kind}": () if kind == "accuracy" else (f"{scenario}-accuracy",)
        for scenario in ("offline", "server")
        for kind in KINDS
    }
    sets = {"TEST09": "/d/perf", **DATASETS}
    special = {"accuracy": ["--accuracy"], "performance": []}
    for one in job.chain:
        scenario, kind = one.name.split("-")
        assert one.words == (
            *("run_mlperf.py", "--mode", scenario, "--output-dir", "{folder}"),
            *special.get(kind, ["--compliance", kind]),
            *("--input-file", sets[kind], "--user-conf", str(user_conf), "--x"),
        )
        below = "/performance/run_1" if kind.startswith("TEST") else ""
        assert one.folder == f"{scenario}/{kind}{below}"
        assert (one.summary, one.again) == ("summary.json", ())
    assert job.files == tuple(
        sorted([Path("/d/acc"), Path("/d/perf"), Path("/d/seven"), user_conf])
    )


def test_a_set_of_its_own_for_test09(tmp_path: Path) -> None:
    found = chain(tmp_path, **SUBMISSION | {"datasets": DATASETS | {"TEST09": "nine"}})
    words = next(one.words for one in found if one.name == "offline-TEST09")
    assert words[words.index("--input-file") + 1] == str(tmp_path.resolve() / "nine")


def test_accuracy_is_not_required(tmp_path: Path) -> None:
    found = chain(tmp_path, **SUBMISSION, require_accuracy=False)
    assert len(found) == 8 and not any(one.needs for one in found)


def test_only_what_comes_behind_an_accuracy_run_of_the_scenario_needs_it(tmp_path: Path) -> None:
    measure = [
        {"scenario": "offline"},
        {"scenario": "server", "kind": "accuracy"},
        {"scenario": "offline", "kind": "accuracy", "name": "first"},
        {"scenario": "offline", "name": "second", "flags": ["--gate"]},
        {"scenario": "offline", "kind": "accuracy", "name": "third"},
        {"scenario": "offline", "name": "fourth"},
        {"scenario": "server"},
        {"sweep": "1024/1024"},
    ]
    found = chain(tmp_path, measure=measure, flags=["--of-all"])
    assert needs(found) == {
        "offline-performance": (),
        "server-accuracy": (),
        "first": (),
        "second": ("first",),
        "third": ("first",),
        "fourth": ("third",),
        "server-performance": ("server-accuracy",),
        "sweep-1024x1024": (),
    }
    second = found[3]
    assert second.folder == "second/offline/performance"
    assert second.words == (
        *("run_mlperf.py", "--mode", "offline", "--output-dir", "{folder}/second"),
        *("--of-all", "--gate"),  # the measurement's own come last: they win
    )


def test_without_datasets_the_demonstration_is_measured(tmp_path: Path) -> None:
    (one,) = chain(tmp_path)
    assert "--input-file" not in one.words and read_job(job_file(tmp_path)).files == ()


def test_a_sweep_and_how_it_goes_on(tmp_path: Path) -> None:
    first, named = chain(
        tmp_path,
        measure=[
            {"sweep": "1024/1024,8192/1024", "conc": "4,8", "flags": ["--tag", "x"]},
            {"sweep": "1024/1024,8192/1024", "name": "again"},
        ],
        flags=["--only-for-runs"],
    )
    base = ("-m", "competition", "sweep", "--tp", "1", "--lengths", "1024/1024,8192/1024")
    words = (*base, "--conc", "4,8", "--tag", "x")
    name = "sweep-1024x1024-8192x1024"
    assert first == Measurement(
        name=name,
        words=(*words, "--output", f"{{folder}}/{name}"),
        again=(*words, "--resume", f"{{folder}}/{name}"),
        folder=name,
        summary="sweep.json",
        needs=(),
    )
    assert (named.name, named.folder) == ("again", "again")
    assert named.words == (*base, "--output", "{folder}/again")


TWICE = [{"scenario": "offline"}, {"scenario": "offline", "flags": ["--x"]}]
SWEEPS = [{"sweep": "1/2", "conc": "4"}, {"sweep": "1/2", "conc": "8"}]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"measure": None}, "nothing to measure: set measure, or submission"),
        ({"measure": []}, "nothing to measure"),
        ({"measure": TWICE}, "measured twice: offline-performance: give one of them a name"),
        ({"measure": SWEEPS}, "measured twice: sweep-1x2: give one of them a name"),
        (SUBMISSION | {"measure": TWICE[:1]}, "measured twice: offline-performance"),
        (SUBMISSION | {"submission": ["server", "server"]}, "server-TEST07, server-TEST09"),
        (SUBMISSION | {"submission": ["single"]}, "submission: 'single' must name some of offline"),
        (SUBMISSION | {"submission": "offline"}, "submission: 'offline' must be a list"),
        (SUBMISSION | {"datasets": None}, "datasets: TEST07: is missing: no demonstration has it"),
        (
            SUBMISSION | {"datasets": {"accuracy": "a", "performance": "p"}},
            "datasets: TEST07: is missing; offline needs it",
        ),
        (
            SUBMISSION | {"datasets": {"accuracy": "a", "TEST07": "t", "TEST09": "t"}},
            "datasets: performance: is missing",
        ),
        ({"datasets": {"accuracy": "a"}}, "datasets: performance: is missing; offline needs it"),
        ({"datasets": {"acuracy": "a"}}, "datasets: acuracy: no such field; did you mean accuracy"),
        ({"datasets": "a"}, "datasets: 'a' must be fields"),
        ({"measure": "offline"}, "measure: 'offline' must be a list"),
        ({"measure": ["offline"]}, "measure 1: 'offline' must be fields"),
        ({"measure": [{}]}, "measure 1: scenario: is missing"),
        (
            {"measure": [{"scenario": "offline"}, {"scenario": "x"}]},
            "measure 2: scenario: 'x' must be one of offline",
        ),
        (
            {"measure": [{"scenario": "offline", "kind": "speed"}]},
            "measure 1: kind: 'speed' must be one of accuracy, performance, TEST07, TEST09",
        ),
        ({"measure": [{"scenario": "offline", "flag": []}]}, "flag: no such field; did you mean"),
        ({"measure": [{"scenario": "offline", "name": "../x"}]}, "name: '../x' must match"),
        ({"measure": [{"scenario": "offline", "conc": "4"}]}, "conc: no such field"),
        ({"measure": [{"sweep": "1024"}]}, "measure 1: sweep: '1024' must match"),
        ({"measure": [{"sweep": "1/2", "conc": "4 8"}]}, "measure 1: conc: '4 8' must match"),
        ({"measure": [{"sweep": "1/2", "scenario": "offline"}]}, "scenario: no such field"),
        ({"require_accuracy": "sure"}, "require_accuracy: 'sure' must be true or false"),
    ],
)
def test_wrong_input(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    path = job_file(tmp_path, **changed)
    with pytest.raises(ConfigError) as raised:
        read_job(path)
    assert str(raised.value).startswith(str(path)) and said in str(raised.value)
