"""Two clients on three clocks: the engine's histograms, a client's CPU while it works, refusals."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from bench.gpu.clients import Contest, Engine, compare_clients
from bench.gpu.clients_table import table
from bench.gpu.histograms import Histogram, grown, parse_histograms, read_histograms
from bench.gpu.ours import Ask
from bench.gpu.theirs import run_theirs, their_records
from bench.gpu.watch import Watched, watch
from bench.processes import process_tree
from core.errors import RunError
from engine.emulator import run_emulator
from results.latency import percentile, tpot_ns, ttft_ns
from results.records import Records

INF = float("inf")
PAGE = """\
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="a}b"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.005",model_name="a}b"} 1.5e+06
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="a}b"} 2.000001e+06
vllm:time_to_first_token_seconds_count{engine="0",model_name="a}b"} 2.000001e+06
vllm:time_to_first_token_seconds_sum{engine="0",model_name="a}b"} 1.2e+04
vllm:time_to_first_token_seconds_created{engine="0",model_name="a}b"} 1.7953752012668452e+09
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.001",model_name="a}b"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.005",model_name="a}b"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="+Inf",model_name="a}b"} 3.0
vllm:time_to_first_token_seconds_sum{engine="1",model_name="a}b"} 0.5
vllm:request_prompt_tokens_bucket{engine="0",le="1.0",model_name="a}b"} 7.0
vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.3",model_name="a}b"} 0.0
vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf",model_name="a}b"} 0.0
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="a}b"} 0.0
"""


def test_histograms_of_a_page() -> None:
    found = parse_histograms(PAGE)
    assert sorted(found) == ["e2e", "ttft"]
    ttft = found["ttft"]  # of both engines
    assert (ttft.bounds_s, ttft.counts) == ((0.001, 0.005, INF), (2, 1_500_001, 500_001))
    assert (ttft.count, ttft.sum_s) == (2_000_004, 12_000.5)
    assert ttft.mean_s == pytest.approx(0.006, rel=1e-4)
    assert found["e2e"].counts == (0, 0)


def test_what_a_run_added() -> None:
    bounds = (1.0, 2.0, INF)
    before = {"ttft": Histogram(bounds, (1, 2, 3), 20.0), "e2e": Histogram(bounds, (5, 0, 0), 2.5)}
    after = {
        "ttft": Histogram(bounds, (1, 4, 4), 27.0),
        "e2e": before["e2e"],
        "itl": Histogram(bounds, (0, 1, 0), 1.5),
    }
    found = grown(before, after)
    assert found == {"ttft": Histogram(bounds, (0, 2, 1), 7.0), "itl": after["itl"]}
    with pytest.raises(RunError, match="anew"):
        grown(after, before)


@pytest.mark.parametrize("percent", [1, 50, 90, 99, 100])
def test_the_bucket_has_the_percentile(percent: float) -> None:
    """The same percentile as of our own records; on a bound a value is below it."""
    bounds = np.array([0.1, 0.2, 0.3, 0.7])
    values = np.sort(np.array([0.05, 0.1, 0.15, 0.2, 0.2, 0.25, 0.3, 0.69, 0.7, 3.0]))
    counts = np.bincount(np.searchsorted(bounds, values), minlength=5)
    histogram = Histogram((*bounds.tolist(), INF), tuple(counts.tolist()), float(values.sum()))
    low, high = histogram.bucket_of(percent)
    assert low < percentile(values, percent) <= high
    assert high in histogram.bounds_s


def test_no_values_no_percentile() -> None:
    with pytest.raises(ValueError, match="without values"):
        Histogram((1.0, INF), (0, 0), 0.0).bucket_of(50)


def test_an_engine_that_is_not_there() -> None:
    with pytest.raises(RunError, match="does not answer"):
        read_histograms("http://127.0.0.1:9")


BURN_S, OUTSIDE_S = 0.3, 0.5
TICKS_S = 0.08  # the kernel tells four times of a process, each cut to 10 ms; two are looked at
BURN = """
import os, resource, subprocess, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
"""
# It tells what it has used, then lives on until stdin is closed.
CHILD = f"burn({BURN_S}); print(time.process_time(), flush=True); sys.stdin.read()"
CLIENT = f"""{BURN}
import json, urllib.request
body = json.dumps({{"prompt": [1, 2, 3], "max_tokens": 8}}).encode()
head = {{"Content-Type": "application/json"}}
def used():
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive_s
def idle():
    began = used()
    open(sys.argv[2] + ".new", "w").close()
    while not os.path.exists(sys.argv[2] + ".seen"): time.sleep(0.01)
    os.unlink(sys.argv[2] + ".seen")
    return began, used()
def ask():
    (first, _), request = idle(), urllib.request.Request(sys.argv[1] + "/v1/completions", body, head)
    urllib.request.urlopen(request).read()
    return first, *idle()
alive_s = 0.0
burn({OUTSIDE_S})
first, _, begin = ask()
burn({BURN_S})
subprocess.run([sys.executable, "-c", sys.argv[3]], stdin=subprocess.DEVNULL, stdout=-3)
lives = subprocess.Popen([sys.executable, "-c", sys.argv[3]], stdin=-1, stdout=-1)
alive_s = float(lives.stdout.readline())
end, _, last = ask()
burn({OUTSIDE_S})
idle()
print(json.dumps([end - begin, last - first])); print("err", file=sys.stderr)
lives.communicate()
sys.exit(3)
"""


def test_the_cpu_of_a_client_and_its_children_while_it_has_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what they say themselves, on a busy machine, too: the client has been looked at while it is
    idle, before and after each of its two requests."""
    new, once, seen = (tmp_path / f"idle.{word}" for word in ("new", "once", "seen"))

    def sleep(seconds: float) -> None:
        """Between two looks; the second of two is all within the client's idle time."""
        if once.exists():
            once.rename(seen)
        elif new.exists():
            new.rename(once)
        time.sleep(seconds)

    monkeypatch.setattr("bench.gpu.watch.sleep", sleep)
    with run_emulator("--dialect", "vllm", "--ttft-ms", "20") as emulator:
        flags = (emulator.urls[0], str(tmp_path / "idle"), BURN + CHILD)
        found = watch([sys.executable, "-c", CLIENT, *flags])
        truth = emulator.truth()
    begin_ns = min(entry["arrived_ns"] for entry in truth)
    end_ns = max(entry["done_ns"] for entry in truth)
    assert (found.returncode, found.stderr) == (3, "err\n")
    low_s, high_s = json.loads(found.stdout)
    assert 3 * BURN_S < low_s <= high_s  # the client, a child that has ended, and one that has not
    used_s = found.cpu_s(begin_ns, end_ns)
    assert low_s - TICKS_S <= used_s <= high_s + TICKS_S
    whole_s = found.cpu_s(found.times_ns[0], found.times_ns[-1])
    assert whole_s >= used_s + 2 * OUTSIDE_S - TICKS_S


def test_an_interrupt_leaves_none_of_the_clients_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1] + '.new', 'w').write(f'{os.getpid()} {child.pid}')\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(600)\n"
    )

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if ready.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr("bench.gpu.watch.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        watch([sys.executable, "-c", code, str(ready)])
    parent, child = map(int, ready.read_text().split())
    assert not list(process_tree(parent))
    while list(process_tree(child)):  # a signal takes a moment; the test's own limit is the end
        time.sleep(0.01)


def result(**other: Any) -> dict[str, Any]:
    """As vllm bench serve leaves it, in seconds."""
    return {
        "failed": 0,
        "errors": ["", ""],
        "start_times": [100.0, 101.0],
        "ttfts": [0.5, 0.25],
        "itls": [[0.25, 0.5], []],
        "input_lens": [32, 31],
        "output_lens": [4, 1],
        **other,
    }


def stand_in(code: str, found: dict[str, Any], path: Path) -> tuple[Watched, Records]:
    """The runs of another program, in place of the engine's client."""
    return run_theirs([sys.executable, "-c", code, str(path), json.dumps(found)], path)


LEAVES = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"


def test_their_result_as_records(tmp_path: Path) -> None:
    watched, records = stand_in(LEAVES, result(), tmp_path / "result.json")
    assert watched.returncode == 0
    assert (records == their_records(result())).all()
    assert ttft_ns(records).tolist() == [500_000_000, 250_000_000]
    assert tpot_ns(records).tolist() == [250_000_000]  # (0.25 + 0.5) / 3
    assert records["done_ns"].tolist() == [101_250_000_000, 101_250_000_000]
    assert records["n_events"].tolist() == [3, 1]


def test_their_failures_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ended with 1: no vllm here"):
        stand_in("raise SystemExit('no vllm here')", {}, tmp_path / "result.json")
    failed = result(failed=1, errors=["", "Bad Request"])
    with pytest.raises(RunError, match=r"1 requests failed: \['Bad Request'\]"):
        stand_in(LEAVES, failed, tmp_path / "result.json")


def compare(
    url: str, folder: Path, rounds: int = 1, stopped: Event | None = None
) -> dict[str, Any]:
    """Against an emulator; it is ours that goes first, and theirs never works."""
    python = folder / "python"
    python.write_text("#!/bin/sh\necho no vllm here >&2; exit 1\n")
    python.chmod(0o755)
    contest = Contest(Ask(8, 4, (1, 1000)), 50.0, 20, rounds)
    engine, stopped = Engine(url, str(python), folder), stopped or Event()
    return compare_clients(engine, contest, folder / "runs", print, stopped)


def test_requests_that_the_engine_did_not_count(tmp_path: Path) -> None:
    with run_emulator("--dialect", "vllm") as emulator:  # it has no histograms
        found = compare(emulator.urls[0], tmp_path)
    assert "counted 0 requests (ttft), the client (ours) made 20" in found["error"]


def test_our_failures_are_named(tmp_path: Path) -> None:
    with run_emulator("--dialect", "vllm", "--osl", "1") as emulator:
        found = compare(emulator.urls[0], tmp_path)
    assert re.search(r"(?s)ended with 4.*20 too_short.*no vllm here", found["error"])


def test_a_run_that_fails_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_emulator("--dialect", "vllm", "--ttft-ms", "5") as emulator:

        def read(url: str) -> dict[str, Histogram]:
            """As an engine would count what the emulator knows."""
            counts = (len(emulator.truth()), 0)
            return {name: Histogram((1.0, INF), counts, 0.0) for name in ("ttft", "tpot", "e2e")}

        monkeypatch.setattr("bench.gpu.clients.read_histograms", read)
        found = compare(emulator.urls[0], tmp_path, rounds=2)
    runs = found["runs"]
    assert found["error"] is None
    assert [run["who"] for run in runs] == ["ours", "theirs", "theirs", "ours"]
    assert [run["failure"] is None for run in runs] == [True, False, False, True]
    assert runs[1]["failure"] == "vllm bench serve ended with 1: no vllm here\n"
    assert runs[3]["requests"] == 20 and runs[3]["cpu_ms_per_request"] > 0
    assert all(run["began_s"] < run["ended_s"] for run in runs)
    assert "2 of 4: theirs, vllm bench serve ended with 1" in capsys.readouterr().out
    rows = table(found).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [
        *("| ours", "| theirs", "| theirs", "| ours", "| ours, median"),
    ]
    assert "no run" in rows[1] and len({row.count("|") for row in rows}) == 1


def test_what_we_ended_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Event()

    def theirs(command: list[str], result: Path) -> None:
        stopped.set()
        raise RunError("vllm bench serve ended with -2")

    monkeypatch.setattr("bench.gpu.clients.run_theirs", theirs)
    with run_emulator("--dialect", "vllm", "--osl", "1") as emulator:
        found = compare(emulator.urls[0], tmp_path, rounds=2, stopped=stopped)
    assert found["error"] == "interrupted"
    assert [run["who"] for run in found["runs"]] == ["ours"]


def run(who: str, ms: float, bucket: list[float | None], late: float | None) -> dict[str, Any]:
    times = {"p50": ms, "p99": 2 * ms, "mean": ms + 1}
    engine = {"count": 5, "mean": ms - 1, "p50": bucket, "p99": bucket}
    due = None if late is None else {"ttft": times, "late": {"p50": 0, "p99": late, "mean": 0}}
    return {
        "who": who,
        "failure": None,
        "client": {"ttft": times, "tpot": times},
        "from_due": due,
        "engine": {"ttft": engine, "tpot": engine},
        "cpu_ms_per_request": ms / 10,
        "compiles": 1,
    }


def test_the_table_has_each_run_and_medians() -> None:
    ours = [run("ours", ms, [0, 10], ms / 100) for ms in (10, 30, 20)]
    theirs = [run("theirs", 40, [20, 40], None), run("theirs", 60, [40, None], None)]
    lines = table({"runs": [ours[0], *theirs, *ours[1:]]}).splitlines()
    names = ["ours", "theirs", "theirs", "ours", "ours", "ours, median", "theirs, median"]
    assert [line.split(" | ")[0][2:] for line in lines[2:]] == names
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    times = "20.00 / 40.00 / 21.00"
    engine = "19.00 [0, 10]"
    assert lines[-2] == (
        f"| ours, median | {times} | {times} | {engine} | {times} | {engine} | 2.00 | 0.20 | 1, 1, 1 |"
    )
    assert "| 49.00 [20, ∞] |" in lines[-1]
    assert "|  | 1, 1 |" in lines[-1]  # it does not tell when a request was due


def test_the_watched_environment(tmp_path: Path) -> None:
    code = "import os; print(os.environ['GIVEN'])"
    assert watch([sys.executable, "-c", code], os.environ | {"GIVEN": "7"}).stdout == "7\n"
