"""The cluster that other tests stand on is a real one, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.slurm.host import alone, leftovers
from tests.slurm.mini import MiniSlurm, mini_slurm, until

ANSWER = """
import socket
server = socket.create_server(("0.0.0.0", 8000))
print("listening", flush=True)
while True:
    connection = server.accept()[0]
    connection.sendall(socket.gethostname().encode())
    connection.close()
"""
ASK = """
import socket, sys
for name in sys.argv[1:]:
    print(socket.create_connection((name, 8000), 5).recv(100).decode())
"""


def batch(slurm: MiniSlurm, name: str, script: str, *flags: str) -> tuple[str, Path]:
    file, log = slurm.folder / f"{name}.sh", slurm.folder / f"{name}.log"
    file.write_text(f"#!/bin/bash\n{script}\n")
    job = slurm.call("sbatch", "--parsable", f"--output={log}", *flags, str(file)).strip()
    return job, log


@pytest.fixture(scope="module")
def warned(slurm: MiniSlurm) -> tuple[str, Path]:
    """Slurm looks at time limits every 30 s: the other tests are run meanwhile."""
    script = "trap 'echo warned; exit 5' TERM; echo ready; sleep 600 & wait"
    return batch(slurm, "warned", script, "--time=1", "--signal=B:TERM@60", "-w", "n4")


def test_nodes_are_distinct_machines(slurm: MiniSlurm, warned: tuple[str, Path]) -> None:
    assert slurm.nodes == ("n1", "n2", "n3", "n4")
    script = "echo $SLURMD_NODENAME $(hostname) $(readlink /proc/self/ns/net)"
    rows = [row.split() for row in slurm.call("srun", "-N4", "sh", "-c", script).splitlines()]
    assert sorted(row[:2] for row in rows) == [[name, name] for name in slurm.nodes]
    networks = {row[2] for row in rows} | {str(Path("/proc/self/ns/net").readlink())}
    assert len(networks) == 5


def test_servers_of_two_nodes_have_the_same_port_and_names(slurm: MiniSlurm) -> None:
    python = [sys.executable, "-c", ANSWER]
    servers = [
        subprocess.Popen(
            slurm.inside(node, *python), stdout=subprocess.PIPE, text=True, env=slurm.environment
        )
        for node in ("n1", "n2")
    ]
    try:
        for server in servers:
            assert server.stdout and server.stdout.readline() == "listening\n"
        asked = [sys.executable, "-c", ASK, "n1", "n2"]
        assert slurm.call("srun", "-w", "n1", *asked) == "n1\nn2\n"
        assert slurm.exec("n3", *asked).stdout == "n1\nn2\n"
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def test_disks_are_the_nodes_own(slurm: MiniSlurm) -> None:
    file = slurm.local_disk / "whose"
    slurm.call("srun", "-N2", "-w", "n1,n2", "sh", "-c", f"hostname >{file}; hostname >/dev/shm/ms")
    assert [(slurm.disk_of(name) / "whose").read_text() for name in ("n1", "n2")] == [
        "n1\n",
        "n2\n",
    ]
    assert slurm.exec("n2", "cat", "/dev/shm/ms").stdout == "n2\n"
    assert not file.exists() and not Path("/dev/shm/ms").exists()


def test_gpus_are_given_out(slurm: MiniSlurm) -> None:
    names = "echo $ROCR_VISIBLE_DEVICES; echo $CUDA_VISIBLE_DEVICES"
    assert slurm.call("srun", "--gres=gpu:4", "sh", "-c", names).split() == ["0,1,2,3"] * 2
    refused = subprocess.run(
        ["srun", "--gres=gpu:9", "true"], env=slurm.environment, capture_output=True, text=True
    )
    assert "Requested node configuration is not available" in refused.stderr


def test_options_of_containers_are_recorded(slurm: MiniSlurm) -> None:
    job, _ = batch(
        slurm,
        "container",
        "srun --container-image=a.sqsh --container-mounts=/a:/b:ro,/c:/d --container-writable true",
        "-N2",
    )
    slurm.wait(job, "COMPLETED")
    tasks = sorted(slurm.containers(job), key=lambda task: task["rank"])
    assert len({task.pop("node") for task in tasks}) == 2
    asked = {"container-image": "a.sqsh", "container-mounts": "/a:/b:ro,/c:/d"}
    asked |= {"job": job, "step": "0", "container-writable": "yes"}
    assert tasks == [asked | {"rank": "0"}, asked | {"rank": "1"}]


def test_what_a_job_leaves_running_is_seen(slurm: MiniSlurm) -> None:
    job, _ = batch(slurm, "left", "setsid -f sleep 4321; exit 3", "-w", "n2")
    with pytest.raises(AssertionError, match=f"job {job} is FAILED and not COMPLETED"):
        slurm.wait(job, "COMPLETED")
    assert slurm.processes("n2") == ["sleep 4321"] and slurm.processes("n1") == []
    assert slurm.exec("n2", "sh", "-c", "hostname; pkill --full 'sleep 432[1]'").stdout == "n2\n"
    until(lambda: not slurm.processes("n2"), 10, "n2 is free of processes")


def test_power_cut(slurm: MiniSlurm) -> None:
    script = (
        'echo "start $SLURM_RESTART_COUNT on $(hostname)"; [[ $SLURM_RESTART_COUNT ]] || sleep 600'
    )
    job, log = batch(slurm, "cut", script, "--requeue", "--open-mode=append", "-w", "n3")
    until(lambda: log.exists() and log.read_text(), 20, "the job is at work")
    slurm.power_cut("n3")
    assert slurm.processes("n3") == []
    slurm.set_down("n3")
    assert slurm.wait(job, "PENDING", limit_s=20)["Restarts"] == "1"
    slurm.power_on("n3")
    assert slurm.node("n3")["State"] == "IDLE"
    slurm.wait(job, "COMPLETED")
    assert log.read_text().splitlines()[-1] == "start 1 on n3"


def test_only_rocr_where_gres_conf_says_so(slurm_is_possible: None, tmp_path: Path) -> None:
    with mini_slurm(tmp_path, nodes=1, gpus=2, gres_flags="amd_gpu_env") as own:
        shown = own.call("srun", "--gres=gpu:mi355x:2", "env").splitlines()
        assert "ROCR_VISIBLE_DEVICES=0,1" in shown
        assert not [line for line in shown if line.startswith("CUDA_VISIBLE_DEVICES")]
        own.call("sbatch", "--wrap=setsid -f sleep 600; sleep 600", f"-D{tmp_path}")
        until(lambda: len(own.processes("n1")) > 1, 20, "a job is at work")
    assert leftovers(1, tmp_path) == []


def test_clusters_of_two_test_runs_queue_up() -> None:
    with alone(9), pytest.raises(AssertionError, match=r"another test run has .* for 0\.1 s"):  # noqa: SIM117
        with alone(9, limit_s=0.1):
            pass


def test_what_a_killed_test_run_left_is_cleaned(slurm_is_possible: None, tmp_path: Path) -> None:
    crashed, later = tmp_path / "crashed", tmp_path / "later"
    code = f"""
import os
from pathlib import Path
from tests.slurm.host import alone, leftovers
from tests.slurm.mini import mini_slurm
folder = Path({str(crashed)!r})
with mini_slurm(folder, nodes=1, gpus=0):
    print(*leftovers(1, folder), sep="\\n", flush=True)
    os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", code]
    killed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    for kind in ("/run/netns/ms1-n1", "/sys/class/net/ms1.1", "slurmctld", "slurmd"):
        assert kind in killed.stdout
    with mini_slurm(later, nodes=1, gpus=0) as own:
        assert not [line for line in leftovers(1, crashed) if str(crashed) in line]
        assert own.call("srun", "hostname") == "n1\n"
    assert leftovers(1, later) == []


def test_signal_before_the_time_limit(slurm: MiniSlurm, warned: tuple[str, Path]) -> None:
    job, log = warned
    assert slurm.wait(job, "FAILED")["ExitCode"] == "5:0"
    assert "warned" in log.read_text().splitlines()
