"""What the inmate of a sandbox gives up, layer by layer, before it runs foreign code.

Its own namespaces: no network, no other processes, and a file tree of its own: system and interpreter
read-only, /tmp in memory, nothing else there. Then an unprivileged uid, resource limits, no rights,
Landlock, seccomp. Each layer alone stops most attacks; one that the kernel forbids is left out and
named to the harness, and the others still bound what code can do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accuracy.sandbox_filter import LIBC, check, landlock, no_new_privileges, seccomp

NEW_USER, DETACH = 0x10000000, 2
NEW_OTHERS = 0x20000 | 0x4000000 | 0x8000000 | 0x20000000 | 0x40000000  # mount, uts, ipc, pid, net
READONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
# An interpreter under /root: where Landlock bounds what is read, the unprivileged uid may read it.
READ_ALL, KEEP_RIGHTS = 1 << 2, 8
DEATH_SIGNAL, BOUNDING_SET_DROP, CAPABILITIES = 1, 24, 0x20080522
FIRST_UID = 2_000_000_000  # plus the warden's pid: no user's, and no two sandboxes share one
NOBODY = 65534
SYSTEM = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", sys.base_prefix, sys.prefix]
DEVICES = ["/dev/null", "/dev/zero", "/dev/urandom"]
Settings = dict[str, Any]  # `sandbox.Limits` with "folder", "missing" and "warden"


def try_layer(settings: Settings, name: str, layer: Callable[[], None]) -> bool:
    """Put the layer on; where it is not wanted or the kernel refuses, note it as missing."""
    try:
        if name in settings["layers"]:
            layer()
            return True
        settings["missing"].append(f"{name} (switched off)")
    except OSError as error:
        settings["missing"].append(f"{name} ({error.strerror})")
    return False


def make_namespaces() -> None:
    """Leave the host's namespaces; the next child leaves its processes, too. OSError: forbidden."""
    if LIBC.unshare(NEW_OTHERS) == 0:  # with rights of our own no user namespace is needed
        return
    uid, gid = os.geteuid(), os.getegid()
    check(LIBC.unshare(NEW_USER | NEW_OTHERS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def enter(settings: Settings) -> None:
    """Give everything up. Raises where that would leave the interpreter without its library."""
    Path("/proc/self/oom_score_adj").write_text(
        "1000"
    )  # if memory runs out, it is this one's fault
    tasks = settings["tasks"]
    home = settings["folder"]
    isolated = not settings["missing"] and _isolate(settings)
    if isolated:
        home = "/tmp"
    elif os.geteuid() != 0:
        tasks += _tasks_of_user()  # the kernel counts all of this user's
    rights = READ_ALL if os.geteuid() == 0 and not isolated else 0
    _drop_user(home, settings["warden"])
    os.chdir(home)
    _limit(settings, tasks)
    _drop_rights(rights)
    readable = [*SYSTEM, *DEVICES]
    landlocked = try_layer(settings, "landlock", lambda: landlock(readable, home))
    filtered = try_layer(settings, "seccomp", seccomp)
    if not (landlocked and filtered):
        _keep_rights(0)
    if not os.access(os.__file__, os.R_OK, effective_ids=True):
        raise PermissionError(
            f"uid {os.getuid()} cannot read {os.__file__}: install Python where others may read"
        )


def _isolate(settings: Settings) -> bool:
    """Whether the inmate got its own file tree; some hosts grant namespaces but no mount in them."""
    try:
        _new_root(settings["folder"], settings["disk_bytes"])
        return True
    except OSError as error:
        LIBC.umount2(settings["folder"].encode(), DETACH)
        settings["missing"].append(f"file tree of its own ({error.strerror})")
        return False


def _new_root(root: str, size: int) -> None:
    """Make `root` the root: system and interpreter read-only, /tmp to write, nothing else."""
    _mount("", "/", "", REC | PRIVATE)
    _mount("tmpfs", root, "tmpfs", NOSUID | NODEV, f"size={size},nr_inodes=4096,mode=755")
    for source in [*SYSTEM, *DEVICES]:
        target = Path(root + source)
        if Path(source).exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _show(Path(source), target)
    (Path(root) / "tmp").mkdir(exist_ok=True)
    (Path(root) / "tmp").chmod(0o1777)
    os.chroot(root)


def _show(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    _mount(str(source), str(target), "", BIND | REC)
    kept = os.statvfs(target).f_flag & (NOSUID | NODEV | NOEXEC)  # the kernel wants them repeated
    _mount("", str(target), "", REMOUNT | BIND | READONLY | NOSUID | kept)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    words = [word.encode() for word in (source, target, kind, data)]
    check(LIBC.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]))


def _drop_user(home: str, warden: int) -> None:
    """As root become a user that owns nothing; else stay who we are."""
    LIBC.prctl(KEEP_RIGHTS, 1, 0, 0, 0)  # until _drop_rights
    for uid in (FIRST_UID + warden, NOBODY):
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):  # a uid that this user namespace does not have
                os.setgroups([])
                os.chown(home, uid, uid)
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)


def _tasks_of_user() -> int:
    found = 0
    for task in Path("/proc").glob("[0-9]*/task/*"):
        with contextlib.suppress(OSError):
            found += task.stat().st_uid == os.geteuid()
    return found


def _limit(settings: Settings, tasks: int) -> None:
    cpu_s = int(settings["cpu_s"]) + 1
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_AS: settings["memory_bytes"],
        resource.RLIMIT_FSIZE: settings["disk_bytes"],
        resource.RLIMIT_NPROC: tasks,
        resource.RLIMIT_NOFILE: settings["open_files"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def _drop_rights(kept: int) -> None:
    for capability in range(64):
        LIBC.prctl(BOUNDING_SET_DROP, capability, 0, 0, 0)  # refused where there is nothing to drop
    _keep_rights(kept)
    LIBC.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # a change of user would have cleared it
    no_new_privileges()


def _keep_rights(kept: int) -> None:
    rights = struct.pack("=6I", kept, kept, 0, 0, 0, 0)
    check(LIBC.capset(struct.pack("=Ii", CAPABILITIES, 0), rights))
