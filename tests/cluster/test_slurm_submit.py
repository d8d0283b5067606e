"""render, submit, status and collect, with something in place of Slurm's commands."""

from __future__ import annotations

import errno
import json
import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from cluster import collect, status, submit
from cluster import slurm as slurm_commands
from cluster.__main__ import main as cluster_main
from cluster.job import read_job
from cluster.plan import Plan
from cluster.records import Measured, is_done, read_json, stamps, store, write_json
from cluster.script import render
from cluster.site import read_site
from core.errors import RunError
from tests.cluster.inputs import job_file, measurement, site_file

HEADS = ["measurement", "replicas", "tokens/s", "about the mean", "stragglers", "verdict"]
NAMES = ["offline-accuracy", "offline-performance", "server-performance"]
MEASURE = [
    {"scenario": "offline", "kind": "accuracy"},
    {"scenario": "offline"},
    {"scenario": "server"},
]
# Numbers jobs from 101 on; its words and input are kept. refuse, code: what it is to say and give.
SBATCH = """\
#!/bin/bash
cd -- "${0%/*}" || exit 9
n=$(find . -name 'sbatch.*.argv' | wc -l)
printf '%s\\n' "$@" >"sbatch.$n.argv"
cat >"sbatch.$n.stdin"
if [[ -e refuse ]]; then cat refuse >&2; exit 1; fi
if [[ $1 == --test-only ]]; then echo "sbatch: Job 1 to start at noon" >&2; exit 0; fi
echo "$((101 + n))$(cat cluster 2>/dev/null)"
exit "$(cat code 2>/dev/null || echo 0)"
"""
SQUEUE = """\
#!/bin/bash
cd -- "${0%/*}" || exit 9
printf '%s\\n' "$*" >>squeue.argv
if [[ ! -e queue ]]; then echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; fi
cat queue
"""


@dataclass(frozen=True)
class Slurm:
    """What was asked of it, and what it is to answer."""

    folder: Path

    def asked(self) -> list[list[str]]:
        """The words of each sbatch."""
        count = len(list(self.folder.glob("sbatch.*.argv")))
        files = [self.folder / f"sbatch.{number}.argv" for number in range(count)]
        return [file.read_text().splitlines() for file in files]

    def given(self) -> list[str]:
        count = len(self.asked())
        return [(self.folder / f"sbatch.{number}.stdin").read_text() for number in range(count)]

    def answers(self, file: str, text: str) -> None:
        (self.folder / file).write_text(text)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Slurm(folder)


@dataclass
class User:
    """Somebody with a site and a job in a folder."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        self.site, self.job = site_file(self.folder), job_file(self.folder, measure=MEASURE)

    @property
    def results(self) -> Path:
        return self.folder.resolve() / "results" / "j"

    def submits(self, *flags: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        return self.calls(submit.main_submit, str(self.job), "--site", str(self.site), *flags)

    def calls(self, main: Callable[[list[str]], int], *words: str) -> tuple[int, str, str]:
        code = main(list(words))
        return code, *self.capture.readouterr()

    def scripts(self) -> list[str]:
        return [one.text for one in render(read_site(self.site), read_job(self.job))]

    def plan(self) -> Plan:
        return render(read_site(self.site), read_job(self.job))[0].plan

    def planned(self) -> None:
        """As submit leaves it."""
        write_json(self.results / "plan.json", asdict(self.plan()))

    def passes(self, name: str, **changed: object) -> Measured:
        """As if that measurement had been made; its record."""
        plan = self.plan()
        one = next(one for one in plan.measurements if one.name == name)
        summary = {
            "tokens_per_s": 12345.67,
            "verdict": "VALID",
            "qps": 3.5,
            "check": {"ok": True},
            "balance": {
                "tokens_above_mean": 0.0123,
                "tokens_below_mean": 0.3,
                "stragglers": ["http://n2:30000"],
            },
        }
        write_json(self.results / one.folder / one.summary, summary)
        done = Measured(
            name=name,
            words=one.words,
            exit_code=0,
            verdict="VALID",
            folder=one.folder,
            replicas=("http://n1:30000", "http://n2:30000"),
            wanted=3,
            system=plan.system,
            files=stamps(plan, one),
            began="2026-01-01T00:00:00+0000",
            ended=f"2026-01-01T0{NAMES.index(name)}:00:00+0000",
            job="101",
        )
        done = replace(done, **changed)  # type: ignore[arg-type]
        store(self.results, done)
        same = (done.system, done.words) == (plan.system, one.words)
        assert is_done(self.results, plan, one) == (done.passed and same)
        return done


@pytest.fixture
def user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> User:
    folder = tmp_path / "a user's folder"
    folder.mkdir()
    user = User(folder, capsys)
    user.job = job_file(folder, measure=MEASURE, results=str(tmp_path / "results"))
    user.folder = tmp_path
    return user


def test_render_prints_and_writes_nothing(user: User) -> None:
    before = set(user.folder.rglob("*"))
    words = [str(user.job), "--site", str(user.site)]
    assert user.calls(submit.main_render, *words) == (0, user.scripts()[0], "")
    assert user.calls(lambda words: cluster_main(["render", *words]), *words)[0] == 0
    user.job.write_text(user.job.read_text() + "chain: jobs\n")
    assert user.calls(submit.main_render, *words) == (0, "\n".join(user.scripts()), "")
    user.job.write_text("nodes: many\n")
    code, out, errors = user.calls(submit.main_render, *words)
    assert (code, out) == (2, "") and errors.startswith(f"error: {user.job}: nodes: 'many' must")
    assert set(user.folder.rglob("*")) == before


def test_a_job_is_submitted(user: User, slurm: Slurm) -> None:
    code, out, errors = user.submits()
    assert (code, errors) == (0, "")
    assert out == f"job: job 101\npython -m cluster status {user.results}\n"
    script = user.results / "job.sbatch"
    assert slurm.asked() == [["--parsable", str(script)]] and slurm.given() == [""]
    assert script.read_text() == user.scripts()[0]
    assert (user.results / "site.yaml").read_bytes() == user.site.read_bytes()
    assert (user.results / "job.yaml").read_bytes() == user.job.read_bytes()
    (noted,) = read_json(user.results / "jobs.json")
    assert (noted["id"], noted["script"]) == ("101", "job.sbatch") and noted["submitted"]
    names = {file.name for file in user.results.iterdir()}
    assert names == {"job.sbatch", "site.yaml", "job.yaml", "jobs.json", "plan.json"}


def test_the_job_of_another_cluster_has_its_number(user: User, slurm: Slurm) -> None:
    slurm.answers("cluster", ";far")
    assert "job: job 101\n" in user.submits()[1]


def test_slurm_checks_and_nothing_is_written(user: User, slurm: Slurm) -> None:
    assert user.submits("--test-only") == (0, "job: sbatch: Job 1 to start at noon\n", "")
    assert slurm.asked() == [["--test-only"]] and slurm.given() == user.scripts()
    assert not user.results.parent.exists()
    slurm.answers("refuse", "sbatch: error: invalid partition specified: x\n")
    code, out, errors = user.submits("--test-only")
    assert (code, out) == (4, "") and "invalid partition specified: x" in errors


def test_slurm_refuses(user: User, slurm: Slurm) -> None:
    slurm.answers("refuse", "sbatch: error: Requested node configuration is not available\n")
    code, out, errors = user.submits()
    assert (code, out) == (4, "")
    refused = "Slurm refuses: sbatch: error: Requested node configuration is not available"
    assert errors == f"error: {refused}\n"
    assert not (user.results / "jobs.json").exists()


def test_without_slurm(user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for flags in ([], ["--test-only"]):
        code, out, errors = user.submits(*flags)
        assert (code, out) == (3, "") and "sbatch: is not on PATH" in errors


def test_a_slurm_that_does_not_answer(
    user: User, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slurm.folder / "sbatch").write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(slurm_commands, "LIMIT_S", 0.1)
    code, _, errors = user.submits()
    assert code == 4 and "is slurmctld up?" in errors


def test_a_folder_with_results_is_only_gone_on_with(user: User, slurm: Slurm) -> None:
    user.passes("offline-accuracy")
    code, out, errors = user.submits()
    assert (code, out) == (2, "") and slurm.asked() == []
    assert f"{user.results}: holds results of an earlier job" in errors and "--resume" in errors
    code, out, _ = user.submits("--resume")
    assert code == 0 and out.startswith("job: job 101\n")
    for name in NAMES[1:]:
        user.passes(name)
    code, out, _ = user.submits("--resume")
    assert (code, len(slurm.asked())) == (0, 1) and out.startswith("job: is done, skipped\n")


def test_going_on_with_the_files_of_the_folder(user: User, slurm: Slurm) -> None:
    """They are what was asked for, kept; submitting them again does not copy them onto themselves."""
    user.submits()
    user.site, user.job = user.results / "site.yaml", user.results / "job.yaml"
    asked = user.job.read_text()
    code, out, errors = user.submits("--resume")
    assert (code, errors) == (0, "") and out.startswith("job: job 102\n")
    assert user.job.read_text() == asked
    assert [one["id"] for one in read_json(user.results / "jobs.json")] == ["101", "102"]


def test_a_job_in_the_queue_has_the_folder(user: User, slurm: Slurm) -> None:
    user.submits()
    slurm.answers("queue", "RUNNING\n")
    for flags in ([], ["--resume"]):
        code, out, errors = user.submits(*flags)
        assert (code, out) == (2, "") and "job 101 still uses it" in errors
        assert "scancel 101" in errors
    assert len(slurm.asked()) == 1
    assert "--jobs=101" in (slurm.folder / "squeue.argv").read_text()
    slurm.answers("queue", "")
    assert user.submits()[0] == 0


def jobs_of(user: User) -> None:
    user.job.write_text(user.job.read_text() + "chain: jobs\n")


def test_a_job_for_each_measurement(user: User, slurm: Slurm) -> None:
    jobs_of(user)
    code, out, _ = user.submits()
    names = [f"job-{number}-{name}" for number, name in enumerate(NAMES, 1)]
    told = [f"{name}: job {number}" for number, name in enumerate(names, 101)]
    assert (code, out.splitlines()[:-1]) == (0, told)
    files = [str(user.results / f"{name}.sbatch") for name in names]
    kill = "--kill-on-invalid-dep=yes"
    assert slurm.asked() == [
        ["--parsable", files[0]],
        ["--parsable", "--dependency=afterok:101", kill, files[1]],
        ["--parsable", "--dependency=afterany:102", kill, files[2]],
    ]
    assert [Path(file).read_text() for file in files] == user.scripts()
    assert [one["id"] for one in read_json(user.results / "jobs.json")] == ["101", "102", "103"]


def test_what_needs_and_what_comes_before_are_two_jobs(user: User, slurm: Slurm) -> None:
    """Only passing counts for the first; the folder is used by one at a time."""
    user.job = job_file(
        user.folder,
        measure=[MEASURE[0], {"scenario": "server", "kind": "accuracy"}, MEASURE[1]],
        chain="jobs",
    )
    user.submits()
    assert slurm.asked()[1][1] == "--dependency=afterany:101"
    assert slurm.asked()[2][1] == "--dependency=afterok:101,afterany:102"


def test_what_is_done_gets_no_job(user: User, slurm: Slurm) -> None:
    jobs_of(user)
    user.passes("offline-accuracy")
    code, out, _ = user.submits("--resume")
    assert (code, out.splitlines()[:3]) == (
        0,
        [
            "job-1-offline-accuracy: is done, skipped",
            "job-2-offline-performance: job 101",
            "job-3-server-performance: job 102",
        ],
    )
    first, second = slurm.asked()
    assert not any(word.startswith("--dependency") for word in first)
    assert second[1] == "--dependency=afterany:101"


def test_waiting_for_what_was_submitted(
    user: User, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until no job is in the queue any more; then by what has passed. The note of it is there before."""
    jobs_of(user)
    seen: list[int] = []

    def is_in_queue(job_id: str) -> bool:
        seen.append(len(read_json(user.results / "jobs.json")))
        if len(seen) == 2:
            for name in NAMES:
                user.passes(name)
        return len(seen) < 2

    monkeypatch.setattr(submit, "is_in_queue", is_in_queue)
    monkeypatch.setattr(submit, "LOOK_S", 0.0)
    code, _, errors = user.submits("--wait")
    assert (code, errors, seen) == (0, "", [3, 3, 3, 3])
    assert "--wait" not in {word for words in slurm.asked() for word in words}


def test_waiting_for_a_job_that_does_not_pass(user: User, slurm: Slurm) -> None:
    assert user.submits("--wait")[0] == 1


def test_a_queue_that_does_not_answer(user: User, slurm: Slurm) -> None:
    """Nobody can say then whether an earlier job still works in the folder."""
    user.submits()
    (slurm.folder / "squeue").write_text("#!/bin/sh\necho unreachable >&2\nexit 1\n")
    code, _, errors = user.submits("--resume")
    assert code == 4 and "squeue: unreachable" in errors and len(slurm.asked()) == 1


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"datasets": {"performance": "data.parquet"}}, "data.parquet"),
        ({"user_conf": "user.conf"}, "user.conf"),
        ({"servers": {"engine": "vllm", "model": "./weights"}}, "weights"),
    ],
)
def test_a_file_that_is_not_there(
    user: User, slurm: Slurm, changed: dict[str, object], missing: str
) -> None:
    user.job = job_file(user.folder, **changed)
    for flags in ([], ["--test-only"]):
        code, out, errors = user.submits(*flags)
        assert (code, out) == (2, "")
        assert errors.startswith(f"error: {user.folder.resolve() / missing}: is not there")
    assert slurm.asked() == [] and not user.results.exists()
    (user.folder / missing).mkdir()
    assert user.submits()[0] == 0


def test_more_gpus_than_a_node_has(user: User, slurm: Slurm) -> None:
    user.job = job_file(user.folder, {"engine": "vllm", "replicas_per_node": 16})
    code, _, errors = user.submits()
    assert code == 2 and slurm.asked() == []
    assert f"{user.job}: replicas_per_node or gpus_per_node: 16, but a node of s has 8" in errors


def test_a_folder_that_cannot_be_made(user: User, slurm: Slurm) -> None:
    user.results.parent.write_text("")
    code, out, errors = user.submits()
    assert (code, out) == (3, "") and f"{user.results}: cannot be made" in errors
    user.results.parent.unlink()
    (user.results / "job.sbatch").mkdir(parents=True)
    code, out, errors = user.submits()
    assert (code, out) == (3, "") and errors.startswith("error: cannot be written")
    assert slurm.asked() == []


def test_where_a_job_stands(user: User, slurm: Slurm) -> None:
    folder = str(user.results)
    user.submits()
    slurm.answers("queue", "101|PENDING|0:00|1:00:00||Resources\n")
    code, out, _ = user.calls(status.main, folder)
    assert (code, out.splitlines()) == (
        0,
        ["job 101: PENDING (Resources), 0:00 of 1:00:00", "the orchestrator has not begun"],
    )
    slurm.answers("queue", "101|RUNNING|5:00|1:00:00|n[1-2]|None\n")
    left_out = {"n2": "its servers ended (1):\n    a log", "http://n1:30001": "HTTP 503"}
    state = {"job": "101", "phase": "measuring x", "replicas": 3, "left_out": left_out}
    write_json(user.results / "state.json", state | {"updated": "NOW"})
    user.passes("offline-performance", exit_code=1, verdict="INVALID")
    user.passes("offline-accuracy")
    code, out, _ = user.calls(status.main, folder)
    assert (code, out.splitlines()) == (
        0,
        [
            "job 101: RUNNING, 5:00 of 1:00:00 on n[1-2]",
            "measuring x (job 101, NOW), 3 replicas",
            "  left out: n2: its servers ended (1):",
            "  left out: http://n1:30001: HTTP 503",
            "offline-accuracy: VALID, 2 of 3 replicas, ended 2026-01-01T00:00:00+0000",
            "offline-performance: INVALID, 2 of 3 replicas, ended 2026-01-01T01:00:00+0000",
        ],
    )
    (slurm.folder / "queue").unlink()
    (user.results / "jobs.json").unlink()
    assert user.calls(status.main, folder)[1].startswith("measuring x")


def test_a_job_that_slurm_forgot(user: User, slurm: Slurm) -> None:
    user.submits()
    code, out, _ = user.calls(status.main, str(user.results))
    assert (code, out.splitlines()[0]) == (0, "job 101: has ended, and Slurm no longer knows it")


def test_no_folder_of_a_job(user: User, tmp_path: Path) -> None:
    for main in (status.main, collect.main):
        code, out, errors = user.calls(main, str(tmp_path / "none"))
        assert (code, out) == (2, "") and "is no folder of a job" in errors
    assert user.calls(status.main, str(tmp_path))[0] == 2


def test_what_was_measured(user: User) -> None:
    for name in reversed(NAMES):
        user.passes(name)
    broken = user.results / "measured" / "half.json"
    broken.write_text('{"name": "half"')
    code, out, errors = user.calls(collect.main, str(user.results))
    assert (code, errors) == (0, "")
    head, *lines, last = out.splitlines()
    assert re.split(" {2,}", head) == HEADS and last == f"all in {user.results}"
    cells = ["2 of 3", "12,345.7", "+1.2 / -30.0 %", "1", "VALID"]
    assert [re.split(" {2,}", line) for line in lines] == [[name, *cells] for name in NAMES]
    assert len({line.index("VALID") for line in lines} | {head.index("verdict")}) == 1
    rows = json.loads((user.results / "results.json").read_text())
    assert [row["name"] for row in rows] == NAMES
    assert rows[1]["passed"] and rows[1]["qps"] == 3.5 and rows[1]["check"] == {"ok": True}
    assert rows[1]["replicas"] == ["http://n1:30000", "http://n2:30000"]


@pytest.mark.parametrize(
    "changed", [{"exit_code": 1, "verdict": "INVALID"}, {"verdict": "UNSCORED, no grader"}]
)
def test_one_that_has_not_passed_is_the_exit_code(user: User, changed: dict[str, object]) -> None:
    user.passes("offline-accuracy", **changed)
    user.passes("offline-performance")
    code, out, _ = user.calls(collect.main, str(user.results))
    assert code == 1 and str(changed["verdict"]) in out
    rows = json.loads((user.results / "results.json").read_text())
    assert [row["passed"] for row in rows] == [False, True]


def test_a_measurement_without_a_summary(user: User) -> None:
    done = user.passes("offline-accuracy")
    (user.results / done.folder / "summary.json").unlink()
    out = user.calls(collect.main, str(user.results))[1]
    cells = re.split(" {2,}", out.splitlines()[1])
    assert cells == ["offline-accuracy", "2 of 3", "-", "-", "-", "VALID"]


def test_nothing_was_measured(user: User) -> None:
    user.results.mkdir(parents=True)
    assert user.calls(collect.main, str(user.results)) == (1, "nothing was measured\n", "")
    assert json.loads((user.results / "results.json").read_text()) == []


def test_an_archive(user: User) -> None:
    user.passes("offline-accuracy")
    archive = user.folder / "out.tar.gz"
    code, out, _ = user.calls(collect.main, str(user.results), "--archive", str(archive))
    assert code == 0 and out.endswith(f"packed into {archive}\n")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert {"j/results.json", "j/measured/offline-accuracy.json"} <= set(names)
    assert all(name.split("/")[0] == "j" for name in names)
    assert [file for file in user.folder.iterdir() if file.name.startswith(".")] == []


def test_an_archive_where_none_can_be(user: User) -> None:
    user.passes("offline-accuracy")
    (user.folder / "file").write_text("")
    before = set(user.folder.rglob("*")) | {user.results / "results.json"}
    for place, code, said in (
        (user.results / "x.tar.gz", 2, "lies in the folder itself; choose another place"),
        (user.results / "measured" / ".." / "x.tar.gz", 2, "lies in the folder itself"),
        (user.folder / "none" / "x.tar.gz", 4, "cannot be written"),
        (user.folder / "file" / "x.tar.gz", 4, "cannot be written"),
    ):
        found, _, errors = user.calls(collect.main, str(user.results), "--archive", str(place))
        assert found == code and errors.startswith(f"error: --archive {place}") and said in errors
    assert set(user.folder.rglob("*")) == before


def test_no_half_of_an_archive_is_left(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tar: tarfile.TarFile, *words: object, **flags: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    user.passes("offline-accuracy")
    before = set(user.folder.rglob("*")) | {user.results / "results.json"}
    monkeypatch.setattr(tarfile.TarFile, "add", full)
    archive = str(user.folder / "x.tar.gz")
    code, _, errors = user.calls(collect.main, str(user.results), "--archive", archive)
    assert code == 4 and "cannot be written: [Errno 28] No space left" in errors
    assert set(user.folder.rglob("*")) == before


def test_a_disk_that_is_full_costs_the_file_alone(user: User) -> None:
    user.passes("offline-accuracy")
    (user.results / "results.json").mkdir()
    code, out, errors = user.calls(collect.main, str(user.results))
    assert code == 0 and "12,345.7" in out and "results.json cannot be written" in errors


def test_a_sweep_has_no_rate_of_its_own(tmp_path: Path) -> None:
    one = measurement("sweep", folder="sweep", summary="sweep.json")
    write_json(tmp_path / "sweep" / "sweep.json", {"tokens_per_s": 5})
    done = Measured(one.name, one.words, 0, "PASSED", "sweep", ("x",), 1, {}, {}, "a", "b", "7")
    store(tmp_path, done)
    line = collect.collect(tmp_path).splitlines()[1]
    assert line.split() == ["sweep", "1", "of", "1", "-", "-", "-", "PASSED"]


def test_an_earlier_runs_figures_are_not_this_ones(user: User) -> None:
    user.passes("offline-accuracy", folder="", exit_code=3, verdict="FAILED")
    _, out, _ = user.calls(collect.main, str(user.results))
    assert "12,345.7" not in out and "FAILED" in out


def shown(user: User) -> tuple[int, dict[str, str]]:
    """collect's exit code, and each measurement's verdict in its table."""
    code, out, errors = user.calls(collect.main, str(user.results))
    assert errors == ""
    rows = [re.split(" {2,}", line) for line in out.splitlines()[1:-1]]
    return code, {row[0]: row[-1] for row in rows}


def test_a_measurement_that_is_missing(user: User) -> None:
    user.planned()
    assert shown(user) == (1, dict.fromkeys(NAMES, "not measured"))
    for name in NAMES[:0:-1]:
        user.passes(name)
    assert shown(user) == (1, {NAMES[0]: "not measured", NAMES[1]: "VALID", NAMES[2]: "VALID"})
    rows = read_json(user.results / "results.json")
    assert [row["passed"] for row in rows] == [False, True, True]
    user.passes(NAMES[0])
    assert shown(user) == (0, dict.fromkeys(NAMES, "VALID"))


def test_what_was_measured_with_other_settings(user: User) -> None:
    """It is told, and is nothing that has passed; what failed has a verdict of its own."""
    for name in NAMES:
        user.passes(name)
    user.planned()
    user.passes(NAMES[0], system=user.plan().system | {"engine": "vllm"})
    user.passes(NAMES[2], words=("run_mlperf.py",), exit_code=1, verdict="INVALID")
    verdicts = dict(zip(NAMES, ("VALID, of other settings", "VALID", "INVALID"), strict=True))
    assert shown(user) == (1, verdicts)
    rows = read_json(user.results / "results.json")
    assert [(row["passed"], row["tokens_per_s"]) for row in rows] == [
        (False, 12345.67),
        (True, 12345.67),
        (False, 12345.67),
    ]


def test_what_an_earlier_chain_has_measured(user: User) -> None:
    """Comes behind the last one's."""
    for name in NAMES:
        user.passes(name)
    user.job = job_file(user.job.parent, measure=MEASURE[1:], results=str(user.results.parent))
    user.planned()
    code, verdicts = shown(user)
    assert (code, list(verdicts)) == (0, [NAMES[1], NAMES[2], NAMES[0]])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "j"}'])
def test_a_plan_that_cannot_be_read(user: User, text: str) -> None:
    user.passes(NAMES[0])
    (user.results / "plan.json").write_text(text)
    assert shown(user) == (0, {NAMES[0]: "VALID"})


@pytest.mark.parametrize("text", ["{", "3", "null", "{}", '{"id": 1}', "[3, null]", '[{"x": 1}]'])
def test_a_list_of_jobs_that_was_damaged(user: User, slurm: Slurm, text: str) -> None:
    user.results.mkdir(parents=True)
    (user.results / "jobs.json").write_text(text)
    code, out, errors = user.calls(status.main, str(user.results))
    assert (code, out) == (2, "") and "is no folder of a job that was submitted" in errors
    code, out, _ = user.submits()
    assert code == 0 and out.startswith("job: job 101\n")
    code, out, _ = user.calls(status.main, str(user.results))
    assert code == 0 and out.startswith("job 101: ")
    slurm.answers("queue", "RUNNING\n")
    assert user.submits()[0] == 2


def test_a_queue_that_is_silent_for_a_while(
    user: User, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Does not end --wait; one that stays silent does."""
    answers: list[bool | None] = [None, True, None, None, False]  # the last for ever

    def is_in_queue(job_id: str) -> bool:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            raise RunError("squeue: unreachable")
        return answer

    monkeypatch.setattr(submit, "is_in_queue", is_in_queue)
    monkeypatch.setattr(submit, "LOOK_S", 0.01)
    code, _, errors = user.submits("--wait")
    assert (code, errors, answers) == (1, "", [False])
    answers += [True, None]
    monkeypatch.setattr(submit, "SILENCE_S", 0.05)
    code, _, errors = user.submits("--wait")
    assert code == 4 and errors == "error: squeue: unreachable\n"
