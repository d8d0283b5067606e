"""A batch's own decisions, with everything that measures or sends replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from competition import batch as room
from competition.batch import Batch, run_batch
from competition.console import Console
from competition.files import write_json
from competition.gate import GateResult
from competition.profile import Lengths, load_profile
from competition.settings import Settings, read_settings
from competition.single import Mode, Refused, Target, receipt_file, result_file
from core.errors import ConfigError, HarnessError, RunError

PROFILE = load_profile("gptoss-fp4-vllm-mi355x")
LENGTHS = Lengths(1024, 1024)
BOARD = "http://127.0.0.1:1"
WHOLE = {"whole": True, "comparable": True}
GATE = GateResult("perplexity", True, {}, (), (), 1.0, WHOLE)


class Played:
    """What a batch would do, noted down; `wrong` says which CONC goes wrong, and how."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gates = 0
        self.measured: list[int] = []
        self.submitted: list[tuple[str, int]] = []
        self.wrong: dict[int, BaseException] = {}
        self.gate: Callable[[], GateResult] = lambda: GATE
        for name in ("open_server", "check_fit"):
            monkeypatch.setattr(room, name, lambda *_: None)
        monkeypatch.setattr(room, "pass_gate", self._pass_gate)
        monkeypatch.setattr(room, "run_point", self._run_point)
        monkeypatch.setattr(room, "submit_point", self._submit_point)

    def _pass_gate(self, *_: object) -> GateResult:
        self.gates += 1
        return self.gate()

    def _run_point(self, settings: Settings, *_: object) -> dict[str, Any]:
        self.measured.append(settings.concurrency)
        if settings.concurrency in self.wrong:
            raise self.wrong[settings.concurrency]
        write_json(result_file(settings), {"verdict": "PASSED"})
        return {"verdict": "PASSED"}

    def _submit_point(
        self, settings: Settings, document: object, target: Target, out: Console
    ) -> None:
        self.submitted.append((target.team, settings.concurrency))
        receipt = {"team": target.team, "url": target.override, "accepted": True}
        write_json(receipt_file(settings), receipt)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


def batch(folder: Path, mode: Mode = Mode.PERF, team: str = "A", **more: str) -> Batch:
    settings = read_settings(PROFILE, {"MODEL": "m"} | more, batch=True)
    target = Target(team, BOARD, None, False) if mode is Mode.SUBMIT else None
    return Batch(mode, LENGTHS, settings, target, folder / "batch", resumed=False)


def run(orders: Batch, *, resumed: bool = False) -> tuple[int, str]:
    ended = run_batch(replace(orders, resumed=resumed), {}, Console())
    return ended.code, (orders.folder / "summary.txt").read_text()


def test_accuracy_once_then_every_concurrency(played: Played, tmp_path: Path) -> None:
    code, summary = run(batch(tmp_path))
    assert (code, played.gates, played.measured) == (0, 1, [4, 8, 16])
    assert "Passed: 3\nFailed: 0" in summary


def test_a_failed_step_is_no_reason_to_leave_out_other_batches(
    played: Played, tmp_path: Path
) -> None:
    played.wrong[8] = Refused("1 requests failed")
    ended = run_batch(batch(tmp_path), {}, Console())
    assert (ended.code, ended.go_on) == (1, True)


def test_the_summary_is_true_at_every_moment(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(settings: Settings, *_: object) -> dict[str, Any]:
        seen.append((tmp_path / "batch" / "summary.txt").read_text())
        return {}

    monkeypatch.setattr(room, "run_point", look)
    run(batch(tmp_path))
    assert "- CONC=4: started at" in seen[0] and "- CONC=8: not started" in seen[0]
    assert "CONC=4: PASSED" in seen[1] and "- CONC=8: started at" in seen[1]
    assert "NOT complete" in seen[2] and "Complete!" not in seen[2]


@pytest.mark.parametrize("error", [Refused("1 requests failed"), RunError("no space left")])
def test_what_fails_does_not_stop_the_rest(
    played: Played, tmp_path: Path, error: HarnessError
) -> None:
    played.wrong[4] = error
    code, summary = run(batch(tmp_path))
    assert (code, played.measured) == (1, [4, 8, 16])
    assert f"    {error}\n    log: " in summary and "Failed: 1" in summary
    played.wrong.clear()
    assert run(batch(tmp_path), resumed=True)[0] == 0
    assert played.measured == [4, 8, 16, 4]


def test_a_gate_that_fails_is_the_end(played: Played, tmp_path: Path) -> None:
    def refuse() -> GateResult:
        raise Refused("ERROR: Accuracy validation FAILED!")

    played.gate = refuse
    ended = run_batch(batch(tmp_path), {}, Console())
    assert (ended.code, ended.go_on, played.measured) == (1, False, [])


def test_ctrl_c_is_told_and_gone_on_with(played: Played, tmp_path: Path) -> None:
    played.wrong[8] = KeyboardInterrupt()
    code, summary = run(batch(tmp_path))
    assert code == 130 and "CONC=8: INTERRUPTED" in summary and "CONC=16: not started" in summary
    assert "NOT complete: 1 not run" in summary


def test_a_model_that_is_not_served_ends_it_before_accuracy(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> None:
        raise ConfigError("MODEL m: the server serves another")

    monkeypatch.setattr(room, "check_fit", wrong)
    assert run(batch(tmp_path))[0] == 2 and played.gates == 0


def test_an_accuracy_test_of_part_of_the_text_is_not_submitted(
    played: Played, tmp_path: Path
) -> None:
    played.gate = lambda: replace(GATE, details=WHOLE | {"comparable": False})
    assert run(batch(tmp_path, Mode.SUBMIT))[0] == 1
    assert played.measured == played.submitted == []


def test_resume_submits_what_was_measured_and_nothing_twice(played: Played, tmp_path: Path) -> None:
    run(batch(tmp_path))
    assert run(batch(tmp_path, Mode.SUBMIT), resumed=True)[0] == 0
    assert played.measured == [4, 8, 16] and played.submitted == [("A", 4), ("A", 8), ("A", 16)]
    assert run(batch(tmp_path, Mode.SUBMIT), resumed=True)[0] == 0
    assert len(played.submitted) == 3
    assert run(batch(tmp_path, Mode.SUBMIT, team="B"), resumed=True)[0] == 0
    assert played.submitted[3:] == [("B", 4), ("B", 8), ("B", 16)]


def test_resume_does_not_repeat_what_was_never_answered(played: Played, tmp_path: Path) -> None:
    orders = batch(tmp_path, Mode.SUBMIT)
    run(orders)
    receipt = receipt_file(orders.point(8))
    receipt.write_text(json.dumps(json.loads(receipt.read_text()) | {"accepted": None}))
    code, summary = run(orders, resumed=True)
    assert code == 1 and len(played.submitted) == 3
    assert "never answered for" in summary and "resubmit" in summary


@pytest.mark.parametrize(
    ("change", "name"),
    [({"TP": "4"}, "tp"), ({"MODEL": "other"}, "model"), ({"RANDOM_RANGE_RATIO": "0.8"}, "ratio")],
)
def test_resume_refuses_another_setting(
    played: Played, tmp_path: Path, change: dict[str, str], name: str
) -> None:
    run(batch(tmp_path))
    with pytest.raises(ConfigError, match=name):
        run(batch(tmp_path, **change), resumed=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"RANDOM_RANGE_RATIO": "0.8"}, "RANDOM_RANGE_RATIO 0.8"), ({"TP": "16"}, "16 GPUs")],
)
def test_a_leaderboard_takes_what_was_measured_by_its_rules(
    played: Played, tmp_path: Path, change: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        run(batch(tmp_path, Mode.SUBMIT, **change))
    assert played.gates == 0
