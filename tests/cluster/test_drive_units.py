"""Parts of the orchestrator by themselves: signals, steps, health, what a node is told."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.drive import health, steps
from cluster.drive.health import answering, faults
from cluster.drive.steps import Step, end
from cluster.drive.stop import REASONS, Stop, Stopped
from cluster.job import read_job
from cluster.plan import Plan, fill
from cluster.planning import make_plan
from cluster.site import read_site
from tests.cluster.inputs import job_file, site_file
from tests.harness import ROOT
from tests.server.servers import stopped_at_once

WAITS = """
import sys
from cluster.drive.stop import Stop, Stopped
with Stop(1000) as stop:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        stop.pause(0)
    except Stopped as reason:
        print(reason)
    print(stop.wait(0), stop.left_s(10_000) <= 1000, stop.left_s(1) == 1)
"""


@pytest.mark.parametrize(
    ("sent", "reason", "limited"),
    [
        ([signal.SIGUSR1], signal.SIGUSR1, False),
        ([signal.SIGINT], signal.SIGINT, False),
        ([signal.SIGTERM], signal.SIGTERM, True),
        ([signal.SIGUSR1, signal.SIGTERM], signal.SIGUSR1, True),  # the first reason stays
    ],
)
def test_signals_become_a_reason(
    sent: list[signal.Signals], reason: signal.Signals, limited: bool
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        for number in sent:
            process.send_signal(number)
        out, _ = process.communicate("sent\n", timeout=20)
    assert process.returncode == 0
    assert out.splitlines() == [REASONS[reason], f"True {limited} True"]


def test_nothing_has_been_said() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Stop(5) as stop:
        assert signal.getsignal(signal.SIGUSR1) != before
        stop.pause(0)
        assert not stop.wait(0.01) and stop.reason is None and stop.left_s(77) == 77
    assert signal.getsignal(signal.SIGUSR1) == before


def test_what_slurm_leaves_of_the_time() -> None:
    with Stop(5) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="Slurm ends the job"):
            stop.pause(20)
        first = stop.killed_at
        os.kill(os.getpid(), signal.SIGTERM)  # again: the time runs from the first
        assert stop.wait(20) and stop.killed_at == first
        assert stop.left_s(3) == 3 and 3 < stop.left_s(60) <= 5
        stop.killed_at = time.monotonic() - 1
        assert stop.left_s(3) == 0


LOOPS = """
import sys
from cluster.drive.stop import Stop
with Stop(1000) as stop:
    print("ready", flush=True)
    while not stop.wait(0.01):
        pass
    sys.stdin.read()  # the second one may still be on its way
    print(stop.reason)
"""


def test_two_signals_at_once_never_hang() -> None:
    """As Slurm sends them; a handler that waits for a lock can interrupt its own holder."""
    stopped_at_once(LOOPS, REASONS[signal.SIGTERM])


def step(folder: Path, text: str, name: str = "serve-n1") -> Step:
    return Step(name, "n1", ["bash", "-c", text], folder / "nodes" / "n1" / "serve.log")


def test_what_a_step_says(tmp_path: Path) -> None:
    """stdout line by line, stderr in the file behind what was there, its end for a message."""
    log = tmp_path / "nodes" / "n1" / "serve.log"
    log.parent.mkdir(parents=True)
    log.write_text("of an earlier job\n")
    found = step(tmp_path, r"printf 'a\nb \xff\n'; seq 20 >&2; echo >&2; printf c; exit 3")
    assert found.wait(20) == 3 and found.code() == 3
    assert found.lines == ["a", "b \ufffd", "c"]
    assert log.read_text().startswith("of an earlier job\n1\n2\n")
    assert found.tail() == "".join(f"\n    {number}" for number in range(10, 21))


def test_a_step_has_ended_when_its_output_is_here(tmp_path: Path) -> None:
    """Also what comes from a child of its own that outlives it."""
    found = step(tmp_path, "(sleep 0.3; echo late) & exit 5")
    assert found.wait(20) == 5 and found.lines == ["late"]


def test_a_step_that_runs(tmp_path: Path) -> None:
    found = step(tmp_path, "echo up; read -r </dev/null || exec sleep 60")
    assert found.code() is None and found.wait(0.05) is None and found.wait(-1) is None
    limit = time.monotonic() + 20
    while not found.lines and time.monotonic() < limit:
        time.sleep(0.01)
    assert found.lines == ["up"]  # at once, not at its end
    found.kill()
    assert found.code() == -signal.SIGKILL
    found.kill()  # what has ended is left alone
    found.log.unlink()
    assert found.tail() == ""


def test_ctrl_c_is_not_for_steps(tmp_path: Path) -> None:
    found = step(tmp_path, "ps -o pgid= -p $$; ps -o pid= -p $$")
    assert found.wait(20) == 0
    assert found.lines[0] == found.lines[1] and int(found.lines[0]) != os.getpgid(0)


@contextmanager
def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, str]) -> Iterator[Path]:
    """squeue names the steps JOB.0, JOB.1, ...; scancel signals the process that wrote pid.JOB.N."""
    lines = "\n".join(f"{number} {name}" for number, name in named.items())
    (folder / "squeue").write_text(f"#!/bin/bash\nprintf '%s\\n' \"$*\" >>{folder}/asked\n")
    with (folder / "squeue").open("a") as file:
        file.write(f"cat <<'END'\n{lines}\nEND\n")
    (folder / "scancel").write_text(
        f"#!/bin/bash\nprintf '%s\\n' \"$*\" >>{folder}/asked\nkind=KILL\n"
        "[[ $1 != --signal=* ]] || { kind=${1#--signal=}; shift; }\n"
        f'for one; do kill -"$kind" "$(<{folder}/pid."$one")"; done\n'
    )
    for name in ("squeue", "scancel"):
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield folder / "asked"


STOPS = "trap 'exit 0' TERM; echo $$ >{pid}; echo up; while :; do sleep 0.05; done"
STAYS = "trap '' TERM; echo $$ >{pid}; echo up; while :; do sleep 0.05; done"


def started(folder: Path, text: str, number: str, name: str) -> Step:
    found = step(folder, text.format(pid=folder / f"pid.{number}"), name)
    limit = time.monotonic() + 20
    while not found.lines and time.monotonic() < limit:
        time.sleep(0.01)
    return found


def test_steps_are_told_to_end_then_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"7.0": "serve-n1", "7.1": "serve-n2", "7.5": "somebody's"}
    with slurm(tmp_path, monkeypatch, numbers) as asked:
        gentle = started(tmp_path, STOPS, "7.0", "serve-n1")
        other = started(tmp_path, STOPS, "7.1", "serve-n2")
        assert end([gentle, other], "7", 20) == []
        assert gentle.code() == other.code() == 0
        asks = "--steps --noheader --jobs=7 --format=%i %j"
        assert asked.read_text().splitlines() == [asks, "--signal=TERM 7.0 7.1"]
        assert end([gentle, other], "7", 20) == []
        assert len(asked.read_text().splitlines()) == 2  # nothing is asked for what has ended
        stubborn = started(tmp_path, STAYS, "7.1", "serve-n2")
        assert end([gentle, stubborn], "7", 0.1) == [stubborn]
        assert stubborn.code() == -signal.SIGKILL
        assert asked.read_text().splitlines()[2:] == [asks, "--signal=TERM 7.1", "7.1"]


def test_a_step_that_slurm_does_not_know_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "CALL_LIMIT_S", 0.2)
    with slurm(tmp_path, monkeypatch, {}) as asked:
        found = started(tmp_path, STAYS, "7.0", "serve-n1")
        assert end([found], "7", 0) == [found] and found.code() == -signal.SIGKILL
        assert asked.read_text() == "--steps --noheader --jobs=7 --format=%i %j\n"


class Replica(http.server.BaseHTTPRequestHandler):
    answers: tuple[int, ...] = ()  # one after another, the last for ever
    tokens = 2
    asked: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked.append(self.path)
        self.send_response(self.answers[min(len(self.asked), len(self.answers)) - 1])
        self.end_headers()
        self.wfile.write(b'{"usage": {"completion_tokens": %d}}' % self.tokens)

    def do_GET(self) -> None:
        """A health page, which nobody should ask for: it is well after an engine has hung, too."""
        type(self).asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def replica(*answers: int, tokens: int = 2) -> Iterator[tuple[str, list[str]]]:
    """Its URL, and what it was asked."""
    kind = type("Kind", (Replica,), {"answers": answers, "asked": [], "tokens": tokens})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", kind.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


def test_which_replicas_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LIMIT_S", 0.3)
    monkeypatch.setattr(health, "PAUSE_S", 0.01)
    path = "/v1/completions"
    with (
        replica(200) as (well, asked),
        replica(503) as (ill, of_ill),
        replica(503, 200) as (slow, _),
        replica(200, tokens=0) as (empty, _),
        socket.create_server(("127.0.0.1", 0)) as silent,  # takes the call and says nothing
    ):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            refused = f"http://127.0.0.1:{gone.getsockname()[1]}"
        mute = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        found = answering("vllm", [ill, well, refused, slow, mute, empty])
        assert time.monotonic() - began < 20
        assert list(found) == [ill, refused, mute, empty]
        assert found[ill].startswith(f"HTTP 503 to {path}")
        assert found[refused] == "connection refused"
        assert found[mute].startswith("TimeoutError")
        assert found[empty].startswith(f"HTTP 200 to {path}")
        assert asked == [path] and of_ill == [path] * 2
    with replica(404) as (other, asked):
        assert "HTTP 404 to /generate" in answering("sglang", [other])[other]
    assert answering("vllm", []) == {}


def test_what_a_nodes_doctor_has_found() -> None:
    rows = [("FAIL", "GPUs", "x"), ("WARN", "GPUs", "y"), ("FAIL", "engine", "z")]
    found = [
        {"level": level, "group": group, "what": what, "value": "bad"}
        for level, group, what in rows
    ]
    assert faults(json.dumps({"findings": found})) == ["x: bad"]
    assert faults(json.dumps({"findings": []})) == []
    for text in ("", "{", "[]", "{}", '{"findings": 3}', '{"findings": [3]}', '{"findings": [{}]}'):
        assert faults(text) == ["the doctor's answer cannot be read"], text


def some_plan(folder: Path) -> Plan:
    servers = {"engine": "vllm", "replicas_per_node": 8, "exclude_gpus": {"n2": "3,5"}}
    job = read_job(job_file(folder, servers, nodes=2))
    site = {"container": {"style": "docker", "image": "x"}}
    return make_plan(read_site(site_file(folder, **site)), job, job.chain)


def test_what_a_node_is_told(tmp_path: Path) -> None:
    plan = some_plan(tmp_path)
    assert [plan.replicas_on(node) for node in ("n1", "n2")] == [8, 6]
    for node, flags in {"n1": ("--dp", "8"), "n2": ("--dp", "6", "--exclude-gpus", "3,5")}.items():
        words = plan.serve_on(node, "77")
        at = words.index("--dp")
        assert words[at : at + len(flags) + 1] == (*flags, "--host")
        assert f"--nodelist={node}" in words and f"--name=gptoss-harness-77-{node}" in words
        assert f"{plan.folder}/nodes/{node}" in words
        assert not any("{" in word for word in words)
    assert "--min-replicas" not in words  # all that are not excluded must come up


@pytest.mark.parametrize(
    ("minimum", "of_n1", "of_n2"), [(13, 7, 5), (12, 6, 4), (9, 3, 1), (8, 2, 1), (1, 1, 1)]
)
def test_how_many_a_node_may_miss(tmp_path: Path, minimum: int, of_n1: int, of_n2: int) -> None:
    """No more than all nodes together, of the 14 that are not excluded; one is the least."""
    found = replace(some_plan(tmp_path), min_replicas=minimum, patience_s=7)
    assert found.wanted == 14
    for node, least in {"n1": of_n1, "n2": of_n2}.items():
        words = found.serve_on(node, "77")
        at = words.index("--min-replicas")
        assert words[at : at + 5] == ("--min-replicas", str(least), "--patience", "7", "--host")


def test_braces_of_other_kinds_stay(tmp_path: Path) -> None:
    words = ("{replicas}x", '{"a": {"node": 1}}', "{other}", "{node}{job}{node}", "{replicas}")
    plan = replace(some_plan(tmp_path), serve=words)
    kept = ("{replicas}x", '{"a": {"node": 1}}', "{other}", "n17n1", "--dp", "8")
    assert plan.serve_on("n1", "7") == kept
    assert fill(["{a}{b}"], a="1") == ("1{b}",)
