"""What the kernel refuses to a sandboxed process: Landlock for files, seccomp for system calls.

Both need no privilege, so they hold where namespaces are forbidden, too. The process cannot start
another one, which alone ends fork bombs and daemons; threads are allowed. It can open no socket, and
signal, trace or retune nobody but itself.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Sequence

LIBC = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2

ARCHITECTURES = {
    "x86_64": (0, 0xC000003E),
    "aarch64": (1, 0xC00000B7),
}  # column below, audit number
NONE = 1 << 20  # no such system call there

# name: number on x86_64, on aarch64. Refused with EPERM, whatever the arguments.
REFUSED = {
    **{"fork": (57, NONE), "vfork": (58, NONE), "execve": (59, 221), "execveat": (322, 281)},
    **{"kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138)},
    **{"rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438)},
    **{"pidfd_send_signal": (424, 424), "ptrace": (101, 117), "kcmp": (312, 272)},
    **{"process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"process_madvise": (440, 440), "process_mrelease": (448, 448)},
    **{"setsid": (112, 157), "setpgid": (109, 154), "prctl": (157, 167), "personality": (135, 92)},
    **{"setpriority": (141, 140), "sched_setaffinity": (203, 122), "ioprio_set": (251, 30)},
    **{"sched_setscheduler": (144, 119), "sched_setattr": (314, 274)},
    **{"sched_setparam": (142, 118), "migrate_pages": (256, 238), "move_pages": (279, 239)},
    **{"socket": (41, 198), "bind": (49, 200), "connect": (42, 203), "io_uring_setup": (425, 425)},
    **{"unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41)},
    **{"mount": (165, 40), "umount2": (166, 39), "move_mount": (429, 429), "fsopen": (430, 430)},
    **{"open_tree": (428, 428), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262)},
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "syslog": (103, 116)},
    **{"keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218)},
    **{"memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194)},
    **{"msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "seccomp": (317, 277)},
}
CLONE, CLONE3, TGKILL, PRLIMIT = (56, 220), (435, 435), (234, 131), (302, 261)
CLONE_THREAD = 0x10000

LOAD, JEQ, JSET, JGE, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCH, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
Step = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def _rule(number: int, verdict: Sequence[Step]) -> list[Step]:
    return [(JEQ, 0, len(verdict), number), *verdict]


def _program(column: int, audit: int) -> list[Step]:
    """The filter in BPF; a rule ends in a verdict, so the number stays loaded between rules."""
    refuse = (RETURN, 0, 0, ERRNO | errno.EPERM)
    allow = (RETURN, 0, 0, ALLOW)
    argument = (LOAD, 0, 0, FIRST_ARGUMENT)
    program = [(LOAD, 0, 0, ARCH), (JEQ, 1, 0, audit), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    program += [(JGE, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]  # x32: other numbers, same machine
    for numbers in REFUSED.values():
        program += _rule(numbers[column], [refuse])
    program += _rule(CLONE3[column], [(RETURN, 0, 0, ERRNO | errno.ENOSYS)])  # libc then uses clone
    program += _rule(CLONE[column], [argument, (JSET, 1, 0, CLONE_THREAD), refuse, allow])
    program += _rule(TGKILL[column], [argument, (JEQ, 1, 0, os.getpid()), refuse, allow])
    program += _rule(PRLIMIT[column], [argument, (JEQ, 1, 0, 0), refuse, allow])
    return [*program, allow]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def no_new_privileges() -> None:
    """From now on no program that is executed gains rights; the other two ask for it."""
    check(LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0))


def seccomp() -> None:
    """Filter this process's system calls. OSError: no filter for this machine or kernel."""
    try:
        column, audit = ARCHITECTURES[platform.machine()]
    except KeyError:
        raise OSError(errno.ENOSYS, f"no filter for {platform.machine()}") from None
    steps = _program(column, audit)
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = _Program(len(steps), code)
    check(LIBC.prctl(SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0))


CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on all architectures
EXECUTE, READ_FILE, READ_DIR = 1, 4, 8
FILE_RIGHTS = 0b1100_0000_0000_0111  # what a rule on a file may hold: execute, write, read, ...


def landlock(readable: Iterable[str], writable: str) -> None:
    """Leave `readable` to read and `writable` to write; no other file, TCP port or process.

    OSError: the kernel has no Landlock, or it is switched off. Older versions restrict less.
    """
    version = check(LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1))
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    rights = struct.pack("=QQQ", files, 0b11, 0b11)[
        : 8 if version < 4 else 16 if version < 6 else 24
    ]
    ruleset = check(LIBC.syscall(CREATE_RULESET, rights, ctypes.c_size_t(len(rights)), 0))
    for path in filter(os.path.exists, readable):
        _allow(ruleset, path, EXECUTE | READ_FILE | READ_DIR)
    _allow(ruleset, writable, files & ~EXECUTE)
    check(LIBC.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    folder = os.open(path, os.O_PATH)
    rights = rights if os.path.isdir(path) else rights & FILE_RIGHTS  # noqa: PTH112
    check(LIBC.syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, folder), 0))
    os.close(folder)


def check(result: int) -> int:
    """The result of a C call. OSError: it failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
