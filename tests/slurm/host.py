"""What a cluster needs of the machine: rights, packages, to be alone; and that nothing is left of it."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "cluster.sh"
QUEUE_S = 600.0  # how long the cluster of another test run is waited for
PACKAGES = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "gcc": "gcc",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/include/slurm/spank.h": "libslurm-dev",
}
# In namespaces that end with it: nothing of this is left, whatever the answer.
TRIAL = (
    "mount -t tmpfs tmpfs /mnt && mknod /mnt/gpu c 1 3 && ip link add ms type bridge"
    " && ip link add ms.1 type veth peer name ms.2"
)


@functools.cache
def why_not() -> str | None:
    """Why no cluster can be made here."""
    if os.geteuid() != 0:
        return "only root can make a Slurm cluster"
    missing = [
        package
        for name, package in PACKAGES.items()
        if not (Path(name).exists() if "/" in name else shutil.which(name))
    ]
    if missing:
        return f"no Slurm cluster: apt-get install --no-install-recommends {' '.join(missing)}"
    trial = ["unshare", "--net", "--uts", "--mount", "sh", "-c", TRIAL]
    done = subprocess.run(trial, capture_output=True, text=True, timeout=20)
    return f"no namespaces for a Slurm cluster: {done.stderr.strip()}" if done.returncode else None


def state(instance: int) -> Path:
    return Path(f"/run/minislurm-{instance}")


def cluster(instance: int, *command: str) -> None:
    done = subprocess.run(
        [str(SCRIPT), str(instance), *command], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f"cluster.sh {instance} {command}:\n{done.stdout}{done.stderr}"


@contextmanager
def alone(instance: int, limit_s: float = QUEUE_S) -> Iterator[None]:
    """No other test run on this machine has that cluster; the lock ends with its process."""
    deadline = time.monotonic() + limit_s
    with Path(f"/run/lock/minislurm-{instance}").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, (
                    f"another test run has had Slurm cluster {instance} of this machine for"
                    f" {limit_s:g} s: fuser -v {file.name}"
                )
                time.sleep(0.2)
        yield


def command_line(pid: int) -> str:
    """Empty for processes that are gone, also where nobody has reaped them yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def leftovers(instance: int, folder: Path) -> list[str]:
    """Of a cluster that is down: names, links, mounts, files, processes (by their SLURM_CONF)."""
    name = f"ms{instance}"
    found = [str(path) for path in Path("/etc/netns").glob(f"{name}-*")]
    found += [str(path) for path in Path("/run/netns").glob(f"{name}-*")]
    found += [str(path) for path in Path("/sys/class/net").glob(f"{name}*")]
    found += [str(path) for path in (state(instance),) if path.exists()]
    mounts = Path("/proc/mounts").read_text().splitlines()
    found += [line for line in mounts if str(folder) in line or f"/{name}-" in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:  # it is gone, or of those that not even root may look at
            continue
        if str(folder).encode() in known and process.name != str(os.getpid()):
            found.append(command_line(int(process.name)))
    return found
