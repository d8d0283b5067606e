"""The competition's quick start, command line for command line, against a server that emulates.

Each script is what the guide tells its reader to type; only the port is another one, because 8888
may be taken here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.competition.scene import (
    BAD,
    LIMIT_S,
    MODEL,
    Leaderboard,
    Shell,
    checkout,
    leaderboard,
    port_of,
    server,
    shell,
    wait_for,
    wikitext,
)
from tests.harness import ROOT, Emulator
from tests.server.servers import free_ports

HOSTILE = """O'Neill "Rust" $(touch pwned) `id` \\n <b>快</b>"""
RULE = "=" * 44
ACCURACY = 4  # requests: two pieces of the text, and two that try it out


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    return checkout(tmp_path_factory.mktemp("competition") / "a clone", text)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wikitext(tmp_path_factory.mktemp("texts") / "wiki.txt")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leaderboard]:
    with leaderboard(tmp_path_factory.mktemp("leaderboard")) as found:
        yield found


@pytest.fixture(scope="module")
def engine() -> Iterator[Emulator]:
    with server() as found:
        yield found


@pytest.fixture
def window(home: Path, text: Path, board: Leaderboard, engine: Emulator) -> Shell:
    """A shell in the guide's folder, with the engine's port and our leaderboard."""
    more = {"LB_URL_OVERRIDE": board.url, "OUR_PORT": port_of(engine.url)}
    return shell(home / "gptoss-fp4-vllm-mi355x", text, **more)


SPECIFIC = "source specific_conc_var.sh >/dev/null && export PORT=$OUR_PORT &&"
ALL = "source all_conc_var.sh >/dev/null && export PORT=$OUR_PORT &&"


def result(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def test_approach_1(window: Shell, board: Leaderboard) -> None:
    """Accuracy, performance, submission of one configuration, under a difficult team name."""
    done = window.run(f'{SPECIFIC} ./gptoss_benchmark submit "YourTeam"')
    assert done.returncode == 0, done.stderr
    found = result(window.folder, "result_isl1024_osl1024_conc8")
    assert found["verdict"] == "PASSED" and found["completed"] == 80
    assert found["benchmark_args"]["random_range_ratio"] == 1.0
    assert found["total_input_tokens"] == 80 * 1024 == found["total_generated_tokens"]
    assert found["accuracy_validation"]["status"] == "PASSED"
    assert found["b200_baseline_nv1126"]["b200_median_e2e_1126"] == 2646
    ratio = found["tput_per_gpu"] / 690.565
    assert found["tput_per_gpu_ratio_vs_b200_1126"] == pytest.approx(ratio)
    assert found["tput_per_gpu"] == pytest.approx(found["total_token_throughput"] / 8)
    assert "not like for like" in done.stderr  # the range ratio's caveat
    (row,) = [row for row in board.rows() if row["team"] == "YourTeam"]
    assert row["concurrency"] == 8 and row["tput_per_gpu"] == found["tput_per_gpu"]
    assert "rank" in done.stdout.lower()
    stored = json.loads(
        (window.folder / "result_isl1024_osl1024_conc8.submission.json").read_text()
    )
    assert len(stored["values"]) == 14 and stored["values"][:2] == ["YourTeam", 8]


def test_a_team_may_have_any_name(window: Shell, board: Leaderboard) -> None:
    window.environ["TEAM_NAME_ENV"] = HOSTILE
    done = window.run(f"{SPECIFIC} export CONC=4 NUM_PROMPTS=40 && ./gptoss_benchmark submit")
    assert done.returncode == 0, done.stderr
    assert HOSTILE in {row["team"] for row in board.rows()}
    assert not (window.folder / "pwned").exists()


def test_approach_2(window: Shell, board: Leaderboard, engine: Emulator) -> None:
    """All concurrencies of a pair; the console's lines in the guide's order."""
    team = "Batch team"
    done = window.run(f'{ALL} ./gptoss_benchmark submit "{team}" -isl 1024 -osl 1024')
    assert done.returncode == 0, done.stderr
    (folder,) = window.folder.glob("batch_isl1024_osl1024_????????_??????")
    head = [
        *(RULE, "Multi-Concurrency Testing Mode", RULE),
        *("ISL: 1024", "OSL: 1024", "Mode: submit", "CONC values: 4, 8, 16"),
        *(f"Team: {team}", f"Leaderboard: {board.url}", RULE),
        *("", f"Results directory: {folder.name}", ""),
    ]
    lines = done.stdout.splitlines()
    assert lines[: len(head)] == head
    for conc in (4, 8, 16):
        start = lines.index(f"Testing CONC={conc}")
        assert lines[start - 1] == lines[start + 1] == RULE
        (end,) = [n for n, line in enumerate(lines) if f"\u2713 CONC={conc}: PASSED (" in line]
        assert end > start
    tail = [
        *(RULE, "Multi-Concurrency Test Complete!", RULE),
        *("Total tests: 3", "Passed: 3", "Failed: 0", ""),
        *(f"Results saved in: {folder.name}/", RULE),
    ]
    assert lines[-len(tail) :] == tail
    assert (folder / "summary.txt").read_text().splitlines()[-len(tail) :] == tail
    assert {row["concurrency"] for row in board.rows() if row["team"] == team} == {4, 8, 16}
    # The engine saw as many different prompts as requests, warm-ups too: nothing to replay.
    sums = [t["prompt_sum"] for t in engine.truth() if t["n_tokens"] == 1024][-12 * (4 + 8 + 16) :]
    assert len(sums) == 336 and len(set(sums)) >= 335
    sixteen = result(folder, "result_isl1024_osl1024_conc16")
    assert sixteen["b200_baseline_nv1126"] is sixteen["median_e2e_ratio_vs_b200_1126"] is None
    assert "no NVIDIA B200 baseline" in done.stderr


def test_faq_another_concurrency(window: Shell) -> None:
    done = window.run(
        f"{SPECIFIC} export CONC=16 && export NUM_PROMPTS=160 && ./gptoss_benchmark perf"
    )
    assert done.returncode == 0, done.stderr
    assert result(window.folder, "result_isl1024_osl1024_conc16")["completed"] == 160
    assert "names another point" in done.stderr


def test_development_phase_acc(window: Shell) -> None:
    before = set(window.folder.glob("batch_*"))
    done = window.run(f"{ALL} ./gptoss_benchmark acc -isl 8192 -osl 1024")
    assert done.returncode == 0 and "CONC values: 4, 8\n" in done.stdout
    assert done.stdout.count("bits_per_byte") == 1  # it does not depend on CONC
    (folder,) = set(window.folder.glob("batch_*")) - before
    assert "\u2713 CONC=8: PASSED" in (folder / "summary.txt").read_text()


@pytest.mark.parametrize("words", ["submit Team", "perf -isl 1024 -osl 1024"])
def test_failing_accuracy_stops_everything(home: Path, text: Path, words: str) -> None:
    with server(logprob=BAD) as bad:
        window = shell(home / "gptoss-fp4-vllm-mi355x", text, OUR_PORT=port_of(bad.url))
        done = window.run(f"{SPECIFIC} ./gptoss_benchmark {words}")
        assert done.returncode == 1
        lines = done.stderr.splitlines()
        at = lines.index("ERROR: Accuracy validation FAILED!")
        assert lines[at + 1].startswith("bits_per_byte: ") and " > 2.1175" in lines[at + 1]
        # Not one performance request: only prompts of the text, and the one that tries it out.
        assert len(bad.truth()) == ACCURACY
        assert {entry["n_tokens"] for entry in bad.truth()} == {1}


def test_a_failing_concurrency_does_not_stop_the_rest(home: Path, text: Path) -> None:
    inside = ACCURACY + 8 + 40 + 16 + 20  # of the measured requests of CONC=8
    with server("--fault", f"error_event:after={inside}:times=1") as faulty:
        window = shell(home / "gptoss-fp4-vllm-mi355x", text, OUR_PORT=port_of(faulty.url))
        known = set(window.folder.glob("batch_*"))
        done = window.run(f"{ALL} ./gptoss_benchmark perf -isl 1024 -osl 1024")
        assert done.returncode == 1  # of the original 0
        (folder,) = set(window.folder.glob("batch_*")) - known
        summary = (folder / "summary.txt").read_text()
        for text_ in (done.stdout, summary):
            assert "\u2713 CONC=4: PASSED" in text_ and "\u2713 CONC=16: PASSED" in text_
            assert "\u2717 CONC=8: FAILED" in text_ and "Failed: 1" in text_
        assert "1 requests failed: engine_error" in summary
        log = next(line for line in summary.splitlines() if "log: " in line).split("log: ")[1]
        assert "warming up" in (window.folder / log).read_text()
        assert result(folder, "result_isl1024_osl1024_conc8")["verdict"] == "FAILED"
        again = window.run(f"{ALL} ./gptoss_benchmark perf --resume {folder.name}")
        assert again.returncode == 0 and "(kept)" in again.stdout
        assert result(folder, "result_isl1024_osl1024_conc8")["verdict"] == "PASSED"


def test_kill_and_resume(home: Path, text: Path) -> None:
    """A kill leaves a true summary, and what was finished is kept."""
    with server("--ttft-ms", "200") as slow:
        window = shell(home / "gptoss-fp4-vllm-mi355x", text, OUR_PORT=port_of(slow.url))
        known = set(window.folder.glob("batch_*"))
        process = window.start(f"{ALL} exec ./gptoss_benchmark perf -isl 1024 -osl 1024")
        while not (new := set(window.folder.glob("batch_*")) - known):
            assert process.poll() is None
        (folder,) = new
        wait_for(folder / "result_isl1024_osl1024_conc8" / "manifest.json")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        summary = (folder / "summary.txt").read_text()
        assert "\u2713 CONC=4: PASSED" in summary and "CONC=8: started at" in summary
        assert "CONC=16: not started" in summary and "NOT complete" in summary
        kept = (folder / "result_isl1024_osl1024_conc4.json").stat().st_mtime_ns
        done = window.run(f"{ALL} ./gptoss_benchmark perf --resume {folder.name}")
        assert done.returncode == 0, done.stderr
        assert "\u2713 CONC=4: PASSED (kept)" in done.stdout
        assert (folder / "result_isl1024_osl1024_conc4.json").stat().st_mtime_ns == kept
        assert "Passed: 3" in (folder / "summary.txt").read_text()


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("./gptoss_benchmark perf", 2, "source gptoss-fp4-vllm-mi355x/specific_conc_var.sh"),
        (f"{ALL} ./gptoss_benchmark perf -isl 1024", 2, "-isl without -osl"),
        (f"{ALL} ./gptoss_benchmark perf -isl 7 -osl 7", 2, "it has 1024/1024, 1024/8192"),
        (f"{SPECIFIC} ./gptoss_benchmark submit", 2, "no team name"),
        (f"{SPECIFIC} export PORT=9 && ./gptoss_benchmark acc", 3, "launch_vllm_server.sh"),
        (f"{SPECIFIC} export MODEL=other && ./gptoss_benchmark acc", 2, f"serves {MODEL}"),
        (f"{SPECIFIC} export ISL=16000 && ./gptoss_benchmark acc", 2, "MAX_MODEL_LEN is 16384"),
    ],
)
def test_wrong_input_says_what_to_do(window: Shell, script: str, code: int, said: str) -> None:
    done = window.run(script)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_deepseek_on_sglang(home: Path, text: Path) -> None:
    model = "amd/DeepSeek-R1-0528-MXFP4-Preview"
    with server("--dialect", "sglang", model=model) as sglang:
        window = shell(home / "dsr1-fp4-sglang-mi355x", text, OUR_PORT=port_of(sglang.url))
        window.environ["TOKENIZER"] = str(home / "engine" / "checkpoint")
        done = window.run(
            f"{SPECIFIC} export CONC=4 NUM_PROMPTS=20 && ./dsr1_benchmark perf; "
            "./dsr1_benchmark perf -isl 1 -osl 1"
        )
        assert "CONC: 4\n" in done.stdout and "0.4620" in done.stdout, done.stderr
        found = result(window.folder, "result_isl1024_osl1024_conc4")
        assert found["verdict"] == "PASSED" and found["profile"] == "dsr1-fp4-sglang-mi355x"
        assert found["b200_baseline_nv1126"]["b200_median_e2e_1126"] == 6854
        assert "NUM_PROMPTS 20 is not the 200" in done.stderr


def test_the_server_of_the_other_window(home: Path, text: Path, tmp_path: Path) -> None:
    """launch_vllm_server.sh in one window; in the other nothing but the guide's lines."""
    python = tmp_path / "engine python"
    emulated = "clock --dialect vllm --logprob -0.1 --chunk 64 --itl-ms 0.2"
    python.write_text(
        '#!/bin/sh\nif [ "$1" = -c ]; then\n'
        """    echo '{"vllm": ["0.32.0", "/nowhere/vllm/__init__.py"]}'\nelse\n"""
        f"    cd '{ROOT}' && exec '{sys.executable}' -m engine {emulated} "
        '--host 127.0.0.1 --port "$PORT" --served-name "$MODEL"\nfi\n'
    )
    python.chmod(0o755)
    window = shell(home / "gptoss-fp4-vllm-mi355x", text, OUR_PORT=str(free_ports()))
    launch = f"bash launch_vllm_server.sh --python '{python}' --platform cuda"
    with window.start(f"{SPECIFIC} export TP=1 && exec {launch}") as other:
        try:
            assert other.stderr and any("ready after" in line for line in other.stderr)
            done = window.run(f"{SPECIFIC} ./gptoss_benchmark acc")
            assert done.returncode == 0, done.stderr
        finally:
            other.send_signal(signal.SIGINT)
            other.communicate(timeout=LIMIT_S)
