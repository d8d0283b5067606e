"""The engine's own benchmark beside ours: its process, what logs say, turns with the emulator."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bench.gpu import inproc, served
from bench.gpu.inproc import OwnEngine, own_command, own_engine
from bench.gpu.ours import read_queries, write_dataset
from bench.gpu.own import PARSERS
from bench.gpu.served import planned, serve, start_phases
from bench.gpu.sides import Work, run_side
from bench.gpu.turns import take_blocks, take_turns
from bench.gpu.turns_table import exchange, table
from bench.processes import process_tree
from core.errors import RunError, SetupError
from server.plan import Replica
from server.process import members
from tests.bench.fake_vllm import BURN_S, DEFAULTS, KERNEL
from tests.harness import emulator
from tests.server.servers import FAKE as FAKE_ENGINE
from tests.server.servers import free_ports, wait_for

FAKE = Path(__file__).with_name("fake_vllm.py")
MODULES = {
    "utils/argparse_utils": "from argparse import ArgumentParser as FlexibleArgumentParser",
    "usage/usage_lib": "class UsageContext: OPENAI_API_SERVER = 'OPENAI_API_SERVER'",
}
PARSER = """
def make_arg_parser(parser):
    parser.add_argument("model_tag", nargs="?")
    for name in ("--model", "--host"):
        parser.add_argument(name, default="none")
    for name in ("--port", "--max-num-seqs", "--max-num-batched-tokens"):
        parser.add_argument(name, type=int)
    for name in ("--stream-interval", "--gpu-memory-utilization", "--max-cudagraph-capture-size"):
        parser.add_argument(name, type=float)  # of the recipes
    parser.add_argument("--no-enable-prefix-caching", action="store_true")
"""
LIMIT_S = 60.0
TICK_S = 0.02  # of what the kernel tells, at both ends
QUERIES, ROWS, ISL, OSL = 20, 8, 16, 4  # three passes of the dataset


def replica(folder: Path, mode: str, *flags: str, place: str = PARSERS[0]) -> Replica:
    """Of a fake vLLM whose server's parser is in that module."""
    texts = MODULES | {place.removeprefix("vllm.").replace(".", "/"): PARSER, "__init__": ""}
    for name, text in texts.items():
        file = folder / "vllm" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text or FAKE.read_text())
    command = (sys.executable, "-m", "vllm.entrypoints.openai.api_server", f"--model=m/{mode}")
    environment = {
        "PYTHONPATH": str(folder),
        "BESIDE": str(folder / "turns"),
    }
    return Replica(
        *(0, "127.0.0.1", 1, "http://127.0.0.1:1", "GPU 0", (*command, *flags)),
        *(tuple(environment.items()), ("REMOVED",), folder / "replica-0.log"),
    )


@contextmanager
def own(folder: Path, mode: str, *flags: str, place: str = PARSERS[0]) -> Iterator[OwnEngine]:
    """Of a fake vLLM; at its end nothing of it is left."""
    made = replica(folder, mode, *flags, place=place)
    with own_engine(made, folder / "own.log", os.environ | {"REMOVED": "1"}, LIMIT_S) as engine:
        yield engine
    assert not members(engine.session)


def write_prompts(folder: Path) -> Path:
    file = folder / "prompts.json"
    file.write_text("[[1, 2, 3], [4, 5]]")
    return file


@pytest.mark.parametrize("place", PARSERS)
def test_one_engine_for_several_calls(tmp_path: Path, place: str) -> None:
    flags = ("--host=h", "--port", "7", "--max-num-seqs=32")
    with own(tmp_path, "ok", *flags, place=place) as engine:
        ready = engine.ready
        first = engine.generate(write_prompts(tmp_path), 4)
        second = engine.generate(tmp_path / "prompts.json", 5, ignore_eos=True, detokenize=False)
    assert (ready.version, ready.ignored) == ("0.26.0", ("host", "port"))
    served = DEFAULTS["OPENAI_API_SERVER"]
    assert (ready.max_num_seqs, ready.max_num_batched_tokens) == (32, served)
    assert 0 < ready.ready_s < LIMIT_S
    assert (first.requests, first.prompt_tokens, first.output_tokens) == (2, 5, 8)
    assert (second.requests, second.prompt_tokens, second.output_tokens) == (2, 5, 10)
    assert first.seconds > BURN_S and first.cpu_s is not None and first.cpu_s >= BURN_S - TICK_S
    assert first.tokens_per_s == 8 / first.seconds
    names = ("top_p", "max_tokens", "temperature", "ignore_eos", "detokenize")
    values = [(1.0, 4, 1.0, False, True), (1.0, 5, 1.0, True, False)]
    asked = [f"asked {dict(zip(names, told, strict=True))}" for told in values]
    assert engine.log.read_text().splitlines() == [*asked, "shut down"]


def test_it_gets_the_environment_of_the_replica(tmp_path: Path) -> None:
    made = replace(replica(tmp_path, "ok"), environment=(("CUDA_VISIBLE_DEVICES", "1"),))
    given = {"REMOVED": "1", "KEPT": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    found = inproc.environment(made, given)
    assert found.items() >= {"CUDA_VISIBLE_DEVICES": "1", "KEPT": "1"}.items()
    assert "REMOVED" not in found


def test_the_model_as_a_word_of_its_own(tmp_path: Path) -> None:
    made = replica(tmp_path, "ok", "m/broken")  # as `vllm serve` has it
    with pytest.raises(SetupError, match="initialization failed"):
        start(made, tmp_path)


def start(made: Replica, folder: Path, limit_s: float = LIMIT_S) -> None:
    """Is sure that nothing is left of an engine that does not start."""
    engine = None
    try:
        with own_engine(made, folder / "own.log", os.environ, limit_s) as engine:
            assert engine.ready
    finally:
        assert engine is None or not members(engine.session)


@pytest.mark.parametrize(
    ("mode", "flags", "said"),
    [
        ("broken", (), r"RuntimeError: Engine core initialization failed.*CUDA is not here"),
        ("ok", ("--no-such-flag",), r"SystemExit: 2.*unrecognized arguments: --no-such-flag"),
    ],
)
def test_an_engine_that_does_not_start(
    tmp_path: Path, mode: str, flags: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SetupError, match=f"(?s){said}"):
        start(replica(tmp_path, mode, *flags), tmp_path)


def test_an_engine_that_is_not_ready_in_time(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no answer in 0\.5 s"):
        start(replica(tmp_path, "silent"), tmp_path, 0.5)


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    made = replace(replica(tmp_path, "ok"), command=("/nowhere/python", "-m", "x"))
    with pytest.raises(SetupError, match="/nowhere/python cannot be started"):
        start(made, tmp_path)


@pytest.mark.parametrize(
    ("mode", "said"),
    [("failing", "ValueError: no such token"), ("dying", r"(?s)without a word.*Killed by nobody")],
)
def test_a_call_that_fails(tmp_path: Path, mode: str, said: str) -> None:
    with own(tmp_path, mode) as engine:
        for what in (said, "ended without a word"):  # it is over, and says so again
            with pytest.raises(RunError, match=what):
                engine.generate(write_prompts(tmp_path), 4)


def test_what_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inproc, "GRACE_S", 0.5)
    with own(tmp_path, "stubborn") as engine:  # which looks for what is left
        assert engine.ready
        assert len(members(engine.session)) == 3  # the last is deaf to TERM


def test_a_second_ctrl_c_leaves_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, session = inproc.gone, 0

    def gone_after_ctrl_c(living: Callable[[], Sequence[int]], limit_s: float) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return gone(living, limit_s)

    monkeypatch.setattr(inproc, "GRACE_S", 0.5)
    monkeypatch.setattr(inproc, "gone", gone_after_ctrl_c)
    with pytest.raises(KeyboardInterrupt), own(tmp_path, "stubborn") as engine:
        assert engine.ready
        session = engine.session
        raise KeyboardInterrupt
    assert session and not members(session)


@contextmanager
def turns(folder: Path, mode: str, rounds: int) -> Iterator[dict[str, Any]]:
    dataset = write_dataset(folder / "rows.parquet", ROWS, ISL)
    log, said = folder / "server.log", list[str]()
    log.write_text("")
    with emulator("--ttft-ms", "5", "--itl-ms", "1") as engine, own(folder, mode) as other:
        work = Work(dataset, QUERIES, OSL, rounds, folder / "turns", detokenize=False)
        warm = partial(said.append, "warm")
        yield take_turns(work, engine.url, log, other, said.append, warm)
    assert said[0] == "warm" and len(said) == 2 + rounds


def test_turns(tmp_path: Path) -> None:
    with turns(tmp_path, "compiling", 3) as result:
        pass
    requests = 3 * ROWS
    assert (result["requests"], result["isl"], result["max_tokens"]) == (requests, ISL, OSL)
    rounds = result["rounds"]
    assert len(rounds) == 3 and result["error"] is None
    for number, each in enumerate(rounds, 1):
        ours, other = each["ours"], each["own"]
        summary = tmp_path / "turns" / f"round-{number}" / "output/offline/performance/summary.json"
        found = json.loads(summary.read_text())
        assert (ours["seconds"], ours["verdict"]) == (found["duration_s"], found["verdict"])
        assert ours["output_tokens"] == other["output_tokens"] == requests * OSL
        assert (other["requests"], other["prompt_tokens"]) == (requests, requests * ISL)
        for side in (ours, other):
            assert side["tokens_per_s"] == pytest.approx(side["output_tokens"] / side["seconds"])
        assert each["ratio"] == ours["tokens_per_s"] / other["tokens_per_s"]
        assert ours["busiest"]["peak_busy"] >= 0
        # From the sending: an Offline query, due at once, is held back until the engine has room.
        queries = read_queries(tmp_path / "turns" / f"round-{number}", "offline")
        mean_ns = int((queries["done_ns"] - queries["sent_ns"]).sum()) / requests
        assert ours["latency_s"]["client"] == pytest.approx(mean_ns / 1e9, rel=1e-9)
        assert each["first"] == ("own", "ours")[(number - 1) % 2]
    compiled = [(list(each["ours"]["compiles"]), list(each["own"]["compiles"])) for each in rounds]
    assert compiled == [
        ([], []),
        ([], [KERNEL.format("_own_3")]),
        ([], []),
    ]
    ratios = sorted(each["ratio"] for each in rounds)
    assert result["ratio"] == {"median": ratios[1], "min": ratios[0], "max": ratios[2]}
    assert result["watched"] == {"ours": False, "own": False}
    assert json.loads(json.dumps(result))["engine"]["version"] == "0.26.0"
    assert "'detokenize': False" in (tmp_path / "own.log").read_text()
    kept = json.loads((tmp_path / "turns" / "rounds.json").read_text())
    assert [each["ratio"] for each in kept[1:]] == [each["ratio"] for each in rounds]
    told = result["commands"]["ours"]
    assert told[told.index("--warmup") + 1] == "0"
    asked = json.loads((tmp_path / "turns" / "prompts.json").read_text())
    rows = pq.read_table(tmp_path / "rows.parquet")["input_tokens"].to_pylist()
    assert asked == rows * 3


def test_the_table_of_turns(tmp_path: Path) -> None:
    def line(ours: float, compiles: list[str]) -> dict[str, Any]:
        sides = {"ours": ours, "own": 2000.0}
        found = {
            name: {"seconds": 1e6 / speed, "tokens_per_s": speed, "compiles": compiles}
            for name, speed in sides.items()
        }
        return {**found, "ratio": ours / 2000.0}

    rounds = [line(1900.0, ["one"]), line(1990.0, []), line(2010.0, [])]
    every, none = {"ours": True, "own": True}, {"ours": False, "own": True}
    result = {"rounds": rounds, "ratio": {"median": 0.995}, "watched": every, "watches_all": every}
    where, _, *lines = table(result | {"gpus": [0, 1]}).splitlines()
    assert "ours on GPU 0, the engine's own on GPU 1" in where
    assert "all rounds of ours" in table(result | {"gpus": [0]})
    assert len({text.count("|") for text in lines}) == 1
    assert lines[2] == "| 1 | 526.32 | 500.00 | 1,900 | 2,000 | 0.9500 | 1 and 1 |"
    assert lines[-1] == "| median | 502.51 | 500.00 | 1,990 | 2,000 | 0.9950 |  |"
    unknown = table(result | {"gpus": [0], "watched": none, "watches_all": none})
    assert "| ? and 1 |" in unknown and "first compilations only" not in unknown
    assert "first compilations only" in table(result | {"gpus": [0], "watches_all": none})


def test_what_the_exchange_of_gpus_leaves() -> None:
    """Ours is 0.98 of the engine's own, and GPU 3 gives 0.9 of what GPU 5 gives."""
    both = [
        {"gpus": gpus, "ratio": {"median": ratio}}
        for gpus, ratio in (((3, 5), 0.98 * 0.9), ((5, 3), 0.98 / 0.9))
    ]
    told = exchange(*both)
    assert "0.9800 of the engine's own speed; GPU 3 gives 0.9000 of what GPU 5 gives" in told


def test_blocks_on_one_gpu(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "rows.parquet", ROWS, ISL)
    work, order = Work(dataset, QUERIES, OSL, 2, tmp_path / "turns"), list[str]()
    log = tmp_path / "server.log"
    log.write_text("")

    @contextmanager
    def server() -> Iterator[tuple[str, Path, int]]:
        with emulator("--ttft-ms", "5", "--itl-ms", "1") as engine:
            order.append("server")
            yield engine.url, log, engine.process.pid
        order.append("gone")

    @contextmanager
    def process() -> Iterator[inproc.OwnEngine]:
        order.append("process")
        with own(tmp_path, mode) as engine:
            yield engine

    mode = "compiling"
    result = take_blocks(work, server, process, order.append)
    told = [word for word in order if word in ("server", "gone", "process")]
    assert told == ["server", "gone", "process"]  # never both at the same time
    assert [len(each["own"]["compiles"]) for each in result["rounds"]] == [0, 1]
    assert len(result["warm_up"]["own"]["compiles"]) == 1  # of a round that is not counted
    mode = "dying_in_the_third"
    result = take_blocks(work, server, process, order.append)
    assert len(result["rounds"]) == 1 and "ended without a word" in result["error"]


def test_a_side_has_what_its_engine_compiled_meanwhile(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(KERNEL.format("_before") + "\n")

    def side() -> dict[str, Any]:
        with log.open("a") as file:
            file.write(KERNEL.format("_meanwhile") + "\n")
        return {"seconds": 1.0}

    assert run_side(side, log) == {"seconds": 1.0, "compiles": (KERNEL.format("_meanwhile"),)}


def test_one_side_at_a_time_and_each_is_first_in_its_turn(tmp_path: Path) -> None:
    with turns(tmp_path, "after", 3) as result:
        assert len(result["rounds"]) == 3
    told = [line for line in (tmp_path / "own.log").read_text().splitlines() if "ours" in line]
    assert told == ["after ours", "before ours"] * 2


def test_ctrl_c_ends_the_side_that_runs(tmp_path: Path) -> None:
    """It answers never, and does not hear of it by itself."""

    log = tmp_path / "own.log"

    def interrupt() -> None:
        wait_for(lambda: log.exists() and "asked" in log.read_text())
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as thread, pytest.raises(KeyboardInterrupt):
        thread.submit(interrupt)
        with turns(tmp_path, "endless", 1):
            pass
    assert "KeyboardInterrupt" in log.read_text()  # it heard of it, rather than be killed


def test_rounds_before_one_that_fails_are_kept(tmp_path: Path) -> None:
    work = Work(write_dataset(tmp_path / "rows.parquet", ROWS, ISL), QUERIES, OSL, 2, tmp_path)
    log = tmp_path / "server.log"
    log.write_text("")
    with (
        emulator("--ttft-ms", "5", "--itl-ms", "1") as engine,
        own(tmp_path, "dying_in_the_third") as other,
    ):
        result = take_turns(work, engine.url, log, other, print)
    assert len(result["rounds"]) == 1 and "ended without a word" in result["error"]
    assert result["ratio"]["median"] == result["rounds"][0]["ratio"]


def test_a_side_that_does_less(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="answered 23 of 24"), turns(tmp_path, "forgetful", 1):
        pass


def test_phases_of_a_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "INFO 11-20 [default_loader.py:430] Loading weights took 2.05 seconds\n"
        "INFO [gpu_model_runner.py:5347] Model loading took 65.97 GiB memory and 3.141593 seconds\n"
        "INFO 11-20 [backends.py:1155] Dynamo bytecode transform time: 4.56 s\n"
        "INFO 11-20 [backends.py:393] Compiling a graph for compile range (1, 8192) takes 9.87 s\n"
        "INFO 11-20 [monitor.py:48] torch.compile took 15.23 s in total\n"
        "INFO 11-20 [monitor.py:81] Initial profiling/warmup run took 0.42 s\n"
        "INFO 11-20 [gpu_model_runner.py:6844] Graph capturing finished in 21 secs, took 1.01 GiB\n"
        "INFO 11-20 [core.py:340] init engine (profile, create kv cache, warmup model) took 50.12 s "
        "(compilation: 15.23 s)\n"
    )
    names = ("weights", "model", "dynamo", "compile", "profile", "graphs", "engine")
    seconds = (2.05, 3.141593, 4.56, 15.23, 0.42, 21.0, 50.12)
    assert start_phases(log) == dict(zip(names, seconds, strict=True))
    log.write_text(
        "INFO Model loading took 0.01 GiB and 0.5 seconds\n"
        "torch.compile and initial profiling/warmup run together took 7.00 s in total\n"
    )
    assert start_phases(log) == {"model": 0.5, "compile": 7.0}


def test_a_server_is_started_and_ended(tmp_path: Path) -> None:
    flags = ("--engine", "emulator", "--engine-version", "clock", "--port", str(free_ports()))
    with serve((*flags, "--dp", "2"), ("--osl", "3"), tmp_path / "served") as starting:
        server = starting.ready
        tree = [*process_tree(starting.pid)]
        assert len(tree) >= 3
    port = int(flags[-1])
    assert server.urls == tuple(f"http://127.0.0.1:{port + n}" for n in range(2))
    assert server.logs == tuple(tmp_path / "served" / f"replica-{n}.log" for n in range(2))
    assert all(log.exists() for log in server.logs)
    assert 0 < server.ready_s < LIMIT_S
    assert server.phases == ({}, {})
    assert living(tree) == []


def living(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if any(process_tree(pid))]


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    told = ("--engine", "vllm", "--python", "/nowhere/python"), (), tmp_path / "served"
    with serve(*told) as starting, pytest.raises(SetupError, match="/nowhere/python cannot"):
        assert starting.ready


def test_a_server_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "GRACE_S", 0.5)
    told = fake_engine(tmp_path, "stuck"), (), tmp_path / "served"
    with serve(*told) as starting:
        wait_for(lambda: any(map(is_deaf, process_tree(starting.pid))))
        tree = [*process_tree(starting.pid)]
    assert living(tree) == []


def is_deaf(pid: int) -> bool:
    """Whether it ignores TERM."""
    try:
        ignored = re.search(r"SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:  # it has ended
        return False
    return ignored is not None and bool(int(ignored[1], 16) >> (signal.SIGTERM - 1) & 1)


def fake_engine(folder: Path, mode: str) -> tuple[str, ...]:
    """Flags for what behaves as an installed vLLM does."""
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE_ENGINE}" "$@"\n')
    python.chmod(0o755)
    model = ("--model_path", str(folder / "model" / mode), "--engine", "vllm", "--platform", "cpu")
    return "--python", str(python), *model


def test_the_plan_of_what_is_served(tmp_path: Path) -> None:
    flags = (*fake_engine(tmp_path, "ok"), "--dp", "2", "--port", "4000")
    first, second = planned(flags, ("--seed=3",), tmp_path / "served", {})
    assert first.command[:3] == (flags[1], "-m", "vllm.entrypoints.openai.api_server")
    assert {"--port=4000", "--seed=3", "--max-num-seqs=32"} <= {*first.command}
    assert second.log == tmp_path / "served" / "replica-1.log"
    command = own_command(second)
    assert command == [flags[1], str(inproc.SCRIPT), *second.command[3:]]
    assert "--port=4001" in command
