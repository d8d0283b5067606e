"""`sweep` as a real process against emulated engines, and one whose servers it starts itself."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from competition.profile import DEFAULT, Lengths, load_profile
from competition.sweep_options import parse_options
from competition.sweep_plot import draw
from competition.sweep_table import as_markdown, as_text
from core.errors import ConfigError
from engine.emulator import run_emulator
from tests.harness import ROOT
from tests.server.servers import free_ports

LIMIT_S, POLL_S = 90.0, 0.05
SMALL = ("--tp", "2", "--num-prompts-per-conc", "2")
FAST = ("--served-name", "m", "--ttft-ms", "20", "--itl-ms", "2")
SLOW = ("--itl-ms", "10")
SERVER = """#!/bin/sh
# An engine's interpreter: tells its version, or serves.
test "$1" = -c && exec echo '{{"vllm": ["0.32.0", "/nowhere/vllm/__init__.py"]}}'
for word; do
    case $word in --port=*) port=${{word#--port=}} ;; esac
done
cd {root} && exec {python} -m engine clock --dialect vllm --served-name m --port "$port" {flags}
"""


def command(*argv: str | Path) -> list[str]:
    return [sys.executable, "-m", "competition", "sweep", *map(str, argv)]


def environment(**more: str) -> dict[str, str]:
    names = ("PATH", "HOME", "TMPDIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | more


def sweep(folder: Path, *argv: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*argv),
        cwd=folder,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def rows(table: str) -> list[list[str]]:
    """The cells of the lines that begin with an input length."""
    return [line.split() for line in table.splitlines() if re.match(r" *\d+ +\d+ ", line)]


def test_two_lengths_at_three_concurrencies(tmp_path: Path) -> None:
    with run_emulator(*FAST) as engine:
        argv = ("--lengths", "64/16,32/8", "--conc", "1,2,4", "--title", "The clock")
        done = sweep(tmp_path, "--server-url", engine.urls[0], *argv, *SMALL)
        assert done.returncode == 0, done.stderr
        assert len(engine.truth()) == 2 * (1 + 2 + 4) * (2 + 2)  # as many warm-ups as measured ones
    (folder,) = tmp_path.glob("sweep_2*")
    wanted = [(isl, osl, conc) for isl, osl in ((32, 8), (64, 16)) for conc in (1, 2, 4)]
    found = rows(done.stdout)
    assert [tuple(map(int, row[:2] + row[3:4])) for row in found] == wanted
    assert {row[2] for row in found} == {"2"}
    for (isl, osl, conc), row in zip(wanted, found, strict=True):
        document = read(folder / f"result_isl{isl}_osl{osl}_conc{conc}.json")
        assert document["verdict"] == "PASSED"
        assert document["accuracy"] is None
        assert any("accuracy was not measured" in text for text in document["warnings"])
        assert document["engine"]["model"] == document["benchmark_args"]["model"] == "m"
        assert document["completed"] == 2 * conc
        assert float(row[8].replace(",", "")) == pytest.approx(
            document["total_token_throughput"] / 2, abs=0.06
        )
        assert (folder / f"result_isl{isl}_osl{osl}_conc{conc}" / "queries.parquet").exists()
    everything = read(folder / "sweep.json")
    assert len(everything["results"]) == 6
    assert everything["failures"] == []
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "table.md").read_text().startswith("# The clock\n")
    assert "The clock" in (folder / "sweep.log").read_text()


def test_a_failing_point_stops_no_other_and_is_measured_again(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    argv = ("--lengths", "64/8", "--conc", "2,1", *SMALL)
    # Requests 1 to 4 warm up, 5 to 8 are measured, and 9 to 12 are the second point's.
    with run_emulator(*FAST, "--fault", "http_500:every=7", native=False) as engine:
        done = sweep(tmp_path, "--server-url", engine.urls[0], *argv, "--output", folder)
    assert done.returncode == 1
    assert "FAILED 64/8 TP 2 CONC 2: 1 requests failed" in done.stderr
    assert [row[3] for row in rows(done.stdout)] == ["1"]
    assert "64/8 TP 2 CONC 2: 1 requests failed" in (folder / "table.md").read_text()
    assert read(folder / "result_isl64_osl8_conc2.json")["verdict"] == "FAILED"
    kept = (folder / "result_isl64_osl8_conc1.json").stat().st_mtime_ns
    with run_emulator(*FAST) as engine:
        again = sweep(tmp_path, "--server-url", engine.urls[0], "--resume", folder)
        assert again.returncode == 0, again.stderr
        assert len(engine.truth()) == 8
        ratio = ("--range-ratio", "0.5")
        other = sweep(tmp_path, "--server-url", engine.urls[0], "--resume", folder, *ratio)
        assert len(engine.truth()) == 8
    assert [row[3] for row in rows(again.stdout)] == ["1", "2"]
    assert (folder / "result_isl64_osl8_conc1.json").stat().st_mtime_ns == kept
    assert other.returncode == 2
    assert "was measured with random_range_ratio 1.0, now it is 0.5" in other.stderr


def test_a_warm_up_that_fails_and_lengths_that_do_not_fit_are_failures_of_a_point(
    tmp_path: Path,
) -> None:
    flags = (*FAST, "--context", "100", "--fault", "http_500:every=9")
    with run_emulator(*flags, native=False) as engine:
        argv = ("--lengths", "64/8,64/64", "--conc", "2,1", *SMALL)
        done = sweep(tmp_path, "--server-url", engine.urls[0], *argv)
    assert done.returncode == 1
    assert [row[3] for row in rows(done.stdout)] == ["2"]
    assert "FAILED 64/8 TP 2 CONC 1: a warm-up request failed" in done.stderr
    assert "FAILED 64/64 TP 2 CONC 2: ISL/OSL 64/64: needs a context of 128" in done.stderr


def test_without_matplotlib_there_is_a_hint_and_no_plot(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    with run_emulator(*FAST) as engine:
        argv = ("--server-url", engine.urls[0], "--lengths", "64/8", "--conc", "1", *SMALL)
        path = f"{tmp_path}{os.pathsep}{ROOT}"
        done = sweep(tmp_path, *argv, "--output", tmp_path / "out", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "no pareto.png" in done.stderr
    assert "./setup.sh --competition" in done.stderr
    assert not (tmp_path / "out" / "pareto.png").exists()


def test_ctrl_c_leaves_what_there_is(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with run_emulator("--served-name", "m", *SLOW) as engine:
        argv = ("--server-url", engine.urls[0], "--lengths", "64/4,64/9000", "--conc", "1")
        out, err = interrupted(tmp_path, folder, *argv, *SMALL)
    assert f"to go on: sweep --resume {folder}" in err
    assert [row[:2] for row in rows(out)] == [["64", "4"]]
    assert len(read(folder / "sweep.json")["results"]) == 1
    assert (folder / "table.md").exists()
    assert "Traceback" not in err


def interrupted(tmp_path: Path, folder: Path, *argv: str | Path, **environ: str) -> tuple[str, str]:
    """Output and remarks of a sweep that Ctrl-C ends after its first point."""
    with subprocess.Popen(
        command("--output", folder, *argv),
        cwd=tmp_path,
        env=environment(**environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(folder / "result_isl64_osl4_conc1.json", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    return out, err


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} never came"
        assert process.poll() is None, process.communicate()
        time.sleep(POLL_S)


def engine_python(folder: Path, *flags: str) -> Path:
    """An interpreter that seems to have vLLM."""
    python = folder / "engine-python"
    text = SERVER.format(root=ROOT, python=sys.executable, flags=" ".join(flags))
    python.write_text(text)
    python.chmod(0o755)
    return python


def launch(folder: Path, *argv: str | Path, flags: Sequence[str] = FAST[2:]) -> list[str | Path]:
    engine = ("--python", engine_python(folder, *flags), "--platform", "cuda")
    return ["--launch", *argv, "--num-prompts-per-conc", "2", "--", *engine]


def test_starts_a_server_for_each_tp_and_ends_it(tmp_path: Path) -> None:
    port, folder = free_ports(), tmp_path / "out"
    argv = ("--tp", "1,2", "--lengths", "64/8", "--conc", "1,2", "--output", folder)
    done = sweep(tmp_path, *launch(tmp_path, *argv), PORT=str(port), MODEL="m")
    assert done.returncode == 0, done.stderr
    assert [row[2:4] for row in rows(done.stdout)] == [
        ["1", "1"],
        ["1", "2"],
        ["2", "1"],
        ["2", "2"],
    ]
    for tp in (1, 2):
        document = read(folder / f"tp{tp}" / "result_isl64_osl8_conc2.json")
        assert (document["tp"], document["gpus_used"]) == (tp, tp)
        assert (folder / f"server_tp{tp}.log").exists()
    assert not listens(port)


def test_ctrl_c_ends_the_server_that_was_started(tmp_path: Path) -> None:
    port, folder = free_ports(), tmp_path / "out"
    argv = launch(tmp_path, "--tp", "1", "--lengths", "64/4,64/9000", "--conc", "1", flags=SLOW)
    out, err = interrupted(tmp_path, folder, *argv, PORT=str(port), MODEL="m")
    assert [row[:2] for row in rows(out)] == [["64", "4"]], err
    assert not listens(port)


def test_a_server_that_does_not_start_fails_its_points_only(tmp_path: Path) -> None:
    port = free_ports()
    script = engine_python(tmp_path, *FAST[2:])
    text = script.read_text().replace("cd ", 'case "$*" in *size=1*) exit 5 ;; esac\ncd ', 1)
    argv = ("--tp", "1,2", "--lengths", "64/8", "--conc", "1", "--num-prompts-per-conc", "2")
    script.write_text(text)
    flags = ("--launch", "--", "--python", script, "--platform", "cuda")
    done = sweep(tmp_path, *argv, *flags, PORT=str(port), MODEL="m")
    assert done.returncode == 1, done.stderr
    assert [row[2] for row in rows(done.stdout)] == ["2"]
    assert "FAILED 64/8 TP 1 CONC 1: the server ended with exit code 4" in done.stderr


def test_never_measures_a_server_that_it_has_not_started(tmp_path: Path) -> None:
    with run_emulator(*FAST) as engine:
        port = engine.urls[0].rpartition(":")[2]
        argv = launch(tmp_path, "--tp", "1", "--lengths", "64/8", "--conc", "1")
        done = sweep(tmp_path, *argv, PORT=port, MODEL="m")
        assert engine.truth() == []
    assert done.returncode == 1
    assert f"something listens at port {port} already" in done.stderr


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--conc", "1"), "--lengths is missing"),
        (("--lengths", "1024", "--conc", "1"), "not a pair of lengths"),
        (("--lengths", "8/8", "--conc", "0"), "--conc 0: must be a whole number"),
        (("--lengths", "8/8", "--conc", ","), "names nothing"),
        (("--lengths", "8/8", "--conc", "1", "--tp", "1,2"), "let --launch start"),
        (("--lengths", "8/8", "--conc", "1", "--", "--x"), "flags after -- are for --launch"),
        (("--lengths", "8/8", "--conc", "1", "--launch", "--server-url", "a:1"), "leave out"),
        (("--lengths", "8/8", "--conc", "1", "--server-url", "https://a"), "only http"),
    ],
)
def test_orders_that_cannot_be_carried_out(argv: Sequence[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_options(argv, load_profile(DEFAULT), {})


def test_orders_are_of_the_environment_where_no_flag_says_otherwise() -> None:
    environ = {"TP": "4", "RANDOM_RANGE_RATIO": "0.8"}
    argv = ("--lengths", "8/8,16/8,8/8", "--conc", "4,1")
    orders = parse_options(argv, load_profile(DEFAULT), environ).orders
    assert orders.pairs == (Lengths(8, 8), Lengths(16, 8))
    assert (orders.concurrencies, orders.tps, orders.range_ratio) == ((4, 1), (4,), "0.8")
    typed = (*argv, "--tp", "2", "--range-ratio", "1.0")
    orders = parse_options(typed, load_profile(DEFAULT), environ).orders
    assert (orders.tps, orders.range_ratio) == ((2,), "1.0")
    assert parse_options(typed, load_profile(DEFAULT), {}).warnings == ()
    (warning,) = parse_options(argv, load_profile(DEFAULT), {}).warnings
    assert warning == "no --tp, and TP is not set: using 8"


def document(tp: int, conc: int, **changed: Any) -> dict[str, Any]:
    figures = {
        **{"isl": 1024, "osl": 1024, "tp": tp, "conc": conc, "gpus_used": tp},
        **{"median_ttft_ms": 12.34, "median_tpot_ms": 2.0, "median_e2el_ms": 2000.0 + conc},
        **{"interactivity": 500.0 - conc, "total_token_throughput": 800.0 * conc},
        "output_throughput": 400.0 * conc,
    }
    return figures | changed


def test_the_table_is_sorted_aligned_and_divides_by_the_gpus_used() -> None:
    text = as_text([document(4, 16), document(4, 4), document(1, 4, median_ttft_ms=None)])
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [row[2:4] for row in rows(text)] == [["1", "4"], ["4", "4"], ["4", "16"]]
    assert rows(text)[0][4] == "n/a"
    assert rows(text)[1][4:] == ["12.3", "2.00", "496.0", "2.004", "800.0", "400.0"]
    assert "| 1024 | 1024 | 8 | 4 | 12.3 |" in as_markdown("T", [document(8, 4)], [])


def test_labels_of_many_points_do_not_hide_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    original = Figure.savefig

    def save(self: Figure, *args: Any, **options: Any) -> None:
        drawn.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", save)
    many = [document(tp, conc) for tp in (1, 8) for conc in (4, 8, 16, 32, 64)]
    draw(many, load_profile(DEFAULT), "T", tmp_path / "p.png")
    (figure,) = drawn
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "Interactivity (tokens/s per user)",
        "Median end-to-end latency (s)",
    ]
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        labels = [text.get_text() for text in axes.texts]
        assert sorted(labels) == sorted(
            [*(f"{tp}/{conc}" for tp in (1, 8) for conc in (4, 8, 16, 32, 64)), "CONC 4", "CONC 8"]
        )
        overlapping = [
            (labels[i], labels[j])
            for i in range(len(boxes))
            for j in range(i)
            if boxes[i].overlaps(boxes[j])
        ]
        assert overlapping == []
