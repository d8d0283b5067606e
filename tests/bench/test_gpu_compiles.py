"""What an engine's log tells of compilations: which lines, of what time, and in which run."""

from __future__ import annotations

import json
import time
from math import inf
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import steps
from bench.gpu.compiles import Compile, LogMark, compiled_between, watched, watches_all
from bench.gpu.options import parse_options
from bench.gpu.report import write_report
from tests.bench.fake_vllm import KERNEL

NOW = int(time.time()) - 3600  # the lines of a log have neither a year nor a part of a second
TUNED = "(EngineCore pid=7) AUTOTUNE mm(64x2880, 2880x128)"
AGAIN = "Triton autotuning for function kernel finished after 0.12s; best config selected: M: 128;"


def at(after_s: int, text: str) -> str:
    """As vLLM logs it."""
    stamp = time.strftime("%m-%d %H:%M:%S", time.localtime(NOW + after_s))
    return f"(EngineCore pid=7) WARNING {stamp} [x.py:1] {text}"


@pytest.mark.parametrize(
    "line",
    [
        "(EngineCore pid=7) \x1b[33mWARNING\x1b[0m 11-20 10:00:00 [jit_monitor.py:136] "
        + KERNEL.format("_topk_forward"),
        "WARNING 11-20 [jit_monitor.py:136] CuTeDSL JIT compilation during inference: Fmha.",
        "Triton autotuning for function kernel finished after 0.12s; best config selected: M: 128;",
        "(EngineCore pid=7) - INFO - autotuner.py:457 - flashinfer.jit: [Autotuner]: "
        "Autotuning process starts ...",
        "AUTOTUNE mm(64x2880, 2880x128)",
        "W1120 torch._dynamo hit config.recompile_limit (8)",
        "INFO 11-20 [backends.py:1155] Dynamo bytecode transform time: 4.56 s",
        "INFO 11-20 [backends.py:394] Compiling a graph for compile range (1, 8192) takes 9.87 s",
        "INFO 11-20 [monitor.py:48] torch.compile took 12.34 s in total",
    ],
)
def test_what_is_compiled_since_a_mark(tmp_path: Path, line: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"{line}\n")
    mark = LogMark.at(log)
    with log.open("a") as file:
        file.write("Processed prompts:  50%|##\rProcessed prompts: 100%|####\nserving requests\n")
    assert mark.compiles_since() == ()
    with log.open("a") as file:
        file.write(f"INFO: throughput 17\n{line}\n")
    (found,) = mark.compiles_since()
    assert found and found in line.replace("\x1b[33m", "").replace("\x1b[0m", "")


def test_a_line_that_was_half_written_at_the_mark(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"{AGAIN}\n{TUNED[:-20]}")
    mark = LogMark.at(log)
    with log.open("a") as file:
        file.write(f"{TUNED[-20:]}\n")
    assert mark.compiles_since() == (TUNED,)


def test_when_a_line_was_written(tmp_path: Path) -> None:
    """By itself, or by the lines around it, those before the mark, too."""
    log, warned = tmp_path / "log", at(0, KERNEL.format("k"))
    before, after = f"{at(-90, 'ready')}\nno time\n", f"{AGAIN}\n{at(30, 'throughput')}\nno time\n"
    log.write_text(f"{before}{TUNED}\n{warned}\n{after}{TUNED}\n")
    expected = [
        Compile(TUNED, NOW - 90, NOW + 1),
        Compile(warned, NOW, NOW + 1),
        Compile(AGAIN, NOW, NOW + 31),
        Compile(TUNED, NOW + 30, inf),
    ]
    assert [*LogMark(log, len(before)).found_since()] == expected
    log.write_text(f"{TUNED}\n")
    assert LogMark(log, 0).found_since() == (Compile(TUNED, -inf, inf),)


def test_a_log_that_is_older_than_the_year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = time.mktime((2027, 1, 1, 0, 0, 0, 0, 0, -1))
    monkeypatch.setattr("bench.gpu.compiles.time.time", lambda: midnight + 5)
    log = tmp_path / "log"
    stamps = ("12-31 23:59:58", "01-01 00:00:02")
    log.write_text("".join(f"INFO {stamp} {TUNED}\n" for stamp in stamps))
    found = LogMark(log, 0).found_since()
    assert [each.from_s for each in found] == [midnight - 2, midnight + 2]


@pytest.mark.parametrize(
    ("span", "counted"),
    [
        ((-9, -1), 0),
        ((-9, 0.0), 0),
        ((-9, 0.2), 1),
        ((2, 3), 1),
        ((5, 6), 1),
        ((5.1, 6.1), 0),
        ((-inf, inf), 1),
    ],
)
def test_what_may_be_of_a_time(span: tuple[float, float], counted: int) -> None:
    """From 0.1 s to 5 s."""
    assert compiled_between([Compile("x", *span)], 0.1, 5.0) == counted


SETTINGS = (
    "non-default args: {'host': '127.0.0.1', 'jit_monitor_verbose': True, 'max_num_seqs': 512}"
)
CONFIG = "V1 LLM engine (v0.26.0) with config: o=O(jit_monitor_mode='warn', jit_monitor_verbose=%s)"


def test_who_is_watched(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for line, wanted in ((SETTINGS, True), (CONFIG % True, True), (CONFIG % False, False)):
        log.write_text(f"{at(0, line)}\n")
        assert (watched(log), watches_all(log)) == (False, wanted)
    log.write_text(
        "(EngineCore pid=7) INFO 11-20 [jit_monitor.py:84] Kernel JIT monitor activated; monitored "
        "JIT compilations during inference will use mode=warn.\n"
    )
    assert (watched(log), watches_all(log)) == (True, False)
    assert LogMark(log, 0).compiles_since() == ()


def run_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, first: str, found: steps.Found
) -> steps.Found:
    """A step that finds that, while its engine's log goes on."""
    log = folder / "replica.log"
    log.write_text(first)

    def step(bench: steps.Bench, target: steps.Target) -> steps.Found:
        lines = at(0, "ready"), at(20, KERNEL.format("k")), TUNED, at(22, "throughput")
        with log.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
        if not found:
            raise ValueError("of no use")
        return found

    table = lambda result: str([run["compiles"] for run in result["runs"]])  # noqa: E731
    monkeypatch.setitem(steps.STEPS, "sweep", (step, table))
    bench = steps.Bench(parse_options([]), folder, lambda text: None)
    return steps.run_step("sweep", bench, steps.Target(("u",), (0,), (log,)))


def window(began_s: float, ended_s: float) -> dict[str, float]:
    return {"began_s": NOW + began_s, "ended_s": NOW + ended_s}


MONITOR = at(-9, "Kernel JIT monitor activated") + "\n"


def test_each_run_has_what_was_compiled_while_it_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line has no time: it may be of two runs."""
    runs = [window(*span) for span in ((0, 9.5), (10, 20.5), (21.5, 22), (23.5, 30))]
    result = {"runs": runs, "results": [window(12, 25)], "trials": [window(1, 2)], **window(0, 30)}
    found = run_step(tmp_path, monkeypatch, MONITOR, result)
    assert found["table"] == "[0, 2, 1, 0]"
    others = found["result"], *found["result"]["results"], *found["result"]["trials"]
    assert [each["compiles"] for each in others] == [2, 2, 0]
    assert (found["watched"], found["watches_all"]) == ([True], [False])
    assert [KERNEL.format("k") in line for line in found["compiles"]] == [True, False]


def test_nobody_knows_of_a_run_that_was_not_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run_step(tmp_path, monkeypatch, "", {"runs": [window(0, 30)]})
    assert (found["table"], found["watched"], len(found["compiles"])) == ("[None]", [False], 2)


def test_a_step_that_fails_tells_what_was_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run_step(tmp_path, monkeypatch, MONITOR, {})
    assert found["error"] == "ValueError: of no use" and len(found["compiles"]) == 2


@pytest.mark.parametrize(
    ("seen", "foot"),
    [
        (([True], [True]), "(3 s; 0 kernels compiled meanwhile)"),
        (
            ([True, True], [True, False]),
            "(3 s; 0 kernels compiled meanwhile, first compilations only: the engine runs without "
            "--jit-monitor-verbose)",
        ),
        (([True, False], [True, True]), "(3 s)"),
        (([], []), "(3 s)"),
    ],
)
def test_the_report_says_what_was_compiled_only_where_it_was_watched(
    tmp_path: Path, seen: tuple[list[bool], list[bool]], foot: str
) -> None:
    found: dict[str, Any] = {"step": "perplexity", "seconds": 3.0, "table": "| a |", "compiles": []}
    watch = dict(zip(("watched", "watches_all"), seen, strict=True))
    (tmp_path / "perplexity.json").write_text(json.dumps(found | watch))
    assert write_report(tmp_path).splitlines()[-1] == foot
