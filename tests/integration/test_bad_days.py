"""Bad days: each ends with a message, in bounded time, with a non-zero exit, and never as VALID."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from core.outcome import Outcome
from results.records import read_parquet
from tests.harness import (
    OFFLINE_CONF,
    command_line,
    emulator,
    run_mlperf,
    server_conf,
    unmarked,
    write_conf,
    write_dataset,
)

SHORT = (
    "--connect-timeout", "2", "--first-token-timeout", "0.6",
    "--between-tokens-timeout", "0.6", "--total-timeout", "4",
)  # fmt: skip
STREAM = ("--ttft-ms", "5", "--itl-ms", "1", "--osl", "12", "--chunk", "3")


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[str, ...]:
    data = write_dataset(tmp_path / "d.parquet", n=30)
    conf = write_conf(tmp_path / "u.conf", *server_conf(qps=60, seconds=1), *OFFLINE_CONF)
    return "--input-file", str(data), "--user-conf", str(conf), *SHORT


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize(
    ("mode", "fault", "outcome"),
    [
        ("server", "http_500:every=7", Outcome.HTTP_ERROR),
        ("offline", "http_500:every=7", Outcome.HTTP_ERROR),
        ("server", "close:every=9:at=4", Outcome.DISCONNECTED),
        ("server", "reset:every=9:at=4", Outcome.DISCONNECTED),
        ("offline", "reset:every=9", Outcome.DISCONNECTED),
        ("server", "silent:every=25", Outcome.FIRST_TOKEN_TIMEOUT),
        ("offline", "silent:every=25", Outcome.TOTAL_TIMEOUT),
        ("server", "stall:every=25:at=4", Outcome.BETWEEN_TOKENS_TIMEOUT),
        ("server", "malformed:every=9:at=4", Outcome.BAD_STREAM),
        ("server", "empty:every=9", Outcome.EMPTY),
        ("offline", "empty:every=9", Outcome.EMPTY),
        ("interactive", "one_token:every=9", Outcome.TOO_SHORT),
        ("server", "wrong_count:every=9", Outcome.COUNT_MISMATCH),
        ("offline", "wrong_count:every=9", Outcome.COUNT_MISMATCH),
        ("server", "error_event:every=9:at=4", Outcome.ENGINE_ERROR),
        ("server", "abort:every=9:at=4", Outcome.ENGINE_ERROR),
        ("server", "out_of_context:every=9:at=6", Outcome.TRUNCATED),
    ],
)
@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_a_failing_answer_is_counted_and_fails_the_run(
    tmp_path: Path, inputs: tuple[str, ...], mode: str, fault: str, outcome: Outcome, dialect: str
) -> None:
    with emulator("--dialect", dialect, *STREAM, "--fault", fault) as engine:
        run = run_mlperf(mode, tmp_path, *inputs, "--server-url", engine.url)
        truth = engine.truth()
    assert run.code == 4, run.stdout + run.stderr
    summary = run.summary
    assert unmarked(summary["verdict"]) == "FAILED"
    struck = sum(entry["fault"] is not None for entry in truth)
    assert summary["failures"] == {outcome.label: struck}
    assert struck > 0
    assert summary["issued"] == len(run.records) == summary["ok"] + struck
    assert summary["failure_reasons"][outcome.label]
    assert outcome.label in run.stdout
    good = [entry for entry in truth if entry["fault"] is None]
    assert summary["output_tokens"] == sum(entry["n_tokens"] for entry in good)


def test_no_engine_there(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    run = run_mlperf("offline", tmp_path, *inputs, "--server-url", "http://127.0.0.1:9")
    assert run.code == 3
    assert "no engine answers at http://127.0.0.1:9" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("mode", ["offline", "server"])
def test_a_replica_that_dies_is_taken_out_and_the_run_goes_on(
    tmp_path: Path, inputs: tuple[str, ...], mode: str
) -> None:
    dying = emulator(*STREAM, "--fault", "die:after=5:at=4")
    with emulator(*STREAM) as healthy, dying as sick:
        run = run_mlperf(
            mode, tmp_path, *inputs, "--server-url", healthy.url, "--server-url", sick.url,
            "--max-concurrency", "4",
        )  # fmt: skip
        served = len(healthy.truth())
    assert run.code == 4, run.stdout + run.stderr
    summary = run.summary
    assert set(summary["failures"]) <= {"disconnected", "refused"}
    assert list(summary["replicas_out"]) == [sick.url]
    assert summary["issued"] == summary["ok"] + sum(summary["failures"].values())
    assert served >= summary["issued"] - 10 - sum(summary["failures"].values())


def test_the_only_replica_dies(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    with emulator(*STREAM, "--fault", "die:after=10:at=4") as engine:
        run = run_mlperf("server", tmp_path, *inputs, "--server-url", engine.url)
    assert run.code == 4, run.stdout + run.stderr
    summary = run.summary
    assert summary["failures"]["no_replica"] > 0
    # Ten answers were not struck; on a busy machine some of them were open when the engine died.
    assert summary["ok"] > 0
    assert summary["ok"] + summary["failures"][Outcome.DISCONNECTED.label] >= 10
    assert summary["issued"] == len(run.records)


def test_a_client_worker_that_dies_loses_no_query(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    with emulator("--ttft-ms", "1500", "--osl", "4") as engine:
        command = command_line("offline", tmp_path / "output", *inputs, "--server-url", engine.url)
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            wait_for(lambda: len(engine.truth()) > 0 or process.poll() is not None)
            (worker,) = (pid for pid in children_of(process.pid) if module_of(pid) == "client")
            os.kill(worker, signal.SIGKILL)
            stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 4, stderr
    assert json.loads(stdout.splitlines()[-1])["failures"]["worker_lost"] > 0


def module_of(pid: int) -> str:
    """X of a `python -m X` process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[2].decode()


def wait_for(condition: object, limit_s: float = 20.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["offline", "server"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_keeps_records_and_leaves_no_process(
    tmp_path: Path, mode: str, number: signal.Signals
) -> None:
    data = write_dataset(tmp_path / "d.parquet", n=400)
    conf = write_conf(tmp_path / "u.conf", *server_conf(qps=40, seconds=60), *OFFLINE_CONF)
    output = tmp_path / "output"
    with emulator("--ttft-ms", "100", "--osl", "12", "--itl-ms", "10") as engine:
        command = command_line(
            mode, output, "--input-file", str(data), "--user-conf", str(conf),
            "--server-url", engine.url, "--max-concurrency", "8",
        )  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        folder = output / mode / "performance"
        wait_for(
            lambda: (folder / "queries.bin").exists() and (folder / "queries.bin").stat().st_size
        )
        helpers = children_of(process.pid)
        assert helpers
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert unmarked(summary["verdict"]) == "INTERRUPTED"
    records = read_parquet(folder / "queries.parquet")
    assert summary["ok"] > 0 and summary["failures"]["cancelled"] > 0
    assert len(records) >= summary["ok"] + summary["failures"]["cancelled"]
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in helpers))
    assert json.loads(stdout.splitlines()[-1])["exit_code"] == 130


def test_interrupt_ends_the_embedded_engine(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command_line("server", tmp_path / "output", "--backend", "embedded"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    records = tmp_path / "output" / "server" / "performance" / "queries.bin"
    wait_for(lambda: records.exists() and records.stat().st_size, limit_s=60)
    helpers = children_of(process.pid)
    assert sorted(map(module_of, helpers)) == ["client", "engine", "telemetry"]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=40)
    assert process.returncode == 130, stderr
    assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in helpers)


def test_killed_harness_leaves_no_engine_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command_line("server", tmp_path / "output", "--backend", "embedded"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    records = tmp_path / "output" / "server" / "performance" / "queries.bin"
    wait_for(lambda: records.exists() and records.stat().st_size, limit_s=60)
    helpers = children_of(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not any(_alive(pid) for pid in helpers))


def _alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("*.Server.target_qps = 5 # five", "a comment must stand on a line of its own"),
        ("*.Server.target_qps", "expected MODEL.SCENARIO.KEY = VALUE"),
        ("*.Server.targetqps = 5", "LoadGen has no key 'targetqps'"),
        ("*.server.target_qps = 5", "unknown scenario 'server'"),
        ("*.Server.target_qps = five", "'five' is not a number"),
    ],
)
def test_broken_user_conf_is_refused(tmp_path: Path, line: str, says: str) -> None:
    conf = write_conf(tmp_path / "u.conf", "*.Server.min_duration = 1000", line)
    run = run_mlperf("server", tmp_path, "--user-conf", str(conf))
    assert run.code == 2
    assert says in run.stderr and "line 2" in run.stderr and str(conf) in run.stderr


def test_left_over_audit_config_is_refused(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    (tmp_path / "audit.config").write_text("*.*.mode = 2\n")
    run = run_mlperf("offline", tmp_path, *inputs)
    assert run.code == 2
    assert "audit.config lies in" in run.stderr


def test_output_that_cannot_be_written(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    (tmp_path / "output").write_text("a file where the folder should be")
    with emulator(*STREAM) as engine:
        run = run_mlperf("offline", tmp_path, *inputs, "--server-url", engine.url)
    assert run.code == 3
    assert "--output-dir: cannot write to" in run.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_disk_full_in_the_middle(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    disk = tmp_path / "output"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        (disk / "ballast").write_bytes(bytes(44 * 1024))
        with emulator("--osl", "4") as engine:
            data = write_dataset(tmp_path / "many.parquet", n=2000)
            run = run_mlperf(
                "offline", tmp_path, *inputs, "--input-file", str(data), "--server-url", engine.url
            )
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert run.code == 4, run.stdout + run.stderr
    assert "No space left on device" in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    assert unmarked(run.last_line["verdict"]) == "FAILED"


def test_nothing_is_named_as_a_number_that_it_is_not(tmp_path: Path) -> None:
    for flags in (
        ("--max-tokens", "0"), ("--top-p", "1.5"), ("--num-workers", "0"), ("--timeout", "-1"),
        ("--server-url", "ftp://x"), ("--server-url", "http://127.0.0.1:99999"),
        ("--input-file", "/does/not/exist"), ("--mlperf-conf", "/does/not/exist"),
    ):  # fmt: skip
        run = run_mlperf("offline", tmp_path, *flags)
        assert run.code == 2, run.stderr
        assert run.stderr.startswith("error: ") and "Traceback" not in run.stderr
        assert flags[1] in run.stderr
