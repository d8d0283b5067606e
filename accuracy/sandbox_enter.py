"""The warden: starts, watches and ends one sandboxed process, the inmate.

`sandbox.Sandbox` runs this in a fresh interpreter. The warden makes the namespaces and forks the
inmate into them; it stays outside the process namespace, where the inmate cannot see it. It ends
the inmate, and whatever the inmate started, when the harness says so, when the inmate ends, and when
the harness is gone: nothing is left behind, however the harness died.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import NoReturn

from accuracy.sandbox_filter import LIBC
from accuracy.sandbox_layers import DETACH, Settings, enter, make_namespaces, try_layer

CHANNEL = 3  # the inmate's only open file: the socket to the harness
SUBREAPER = 36
COULD_NOT_ENTER = 99
SIGNALS = (signal.SIGTERM, signal.SIGCHLD)


class _OverError(Exception):
    """The inmate ended, or the harness wants it ended."""


def main() -> NoReturn:
    """The warden's life. argv: settings as JSON, the inmate's "module:function"; stdin: the socket."""
    settings: Settings = json.loads(sys.argv[1]) | {"missing": [], "warden": os.getpid()}
    module, _, name = sys.argv[2].partition(":")
    work: Callable[[int, list[str]], None] = getattr(import_module(module), name)
    sys.path.pop(0)  # the project's root: the inmate has all that it needs
    for number in SIGNALS:
        signal.signal(number, _over)
    LIBC.prctl(SUBREAPER, 1, 0, 0, 0)
    inmate, status = 0, COULD_NOT_ENTER << 8
    try:
        try_layer(settings, "namespaces", make_namespaces)
        inmate = os.fork()
        if inmate == 0:
            _live(settings, work)
        _wait_for_hang_up()
    except _OverError:
        pass
    finally:
        if inmate:
            status = _sweep(inmate)
        _remove(settings["folder"])
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)  # 256 - n: ended by signal n


def _live(settings: Settings, work: Callable[[int, list[str]], None]) -> NoReturn:
    """The inmate's life; it never returns into the warden's code."""
    leave = os._exit  # the code that is run may replace the name
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.dup2(0, CHANNEL)
        null = os.open(os.devnull, os.O_RDWR)
        enter(settings)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.close(null)
    except BaseException:  # noqa: BLE001 - it must not run on as a second warden
        traceback.print_exc()
        leave(COULD_NOT_ENTER)
    try:
        work(CHANNEL, settings["missing"])
    finally:
        leave(1)


def _over(number: int, frame: FrameType | None) -> None:
    _deaf()
    raise _OverError


def _deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _wait_for_hang_up() -> None:
    harness = select.poll()
    harness.register(0, 0)  # no event is asked for: a hang-up is told without
    harness.poll()


def _sweep(inmate: int) -> int:
    """Kill the inmate and its descendants, which fall to this subreaper. Returns its wait status."""
    _deaf()
    ended, status = os.waitpid(inmate, os.WNOHANG)  # by itself: then that is how
    with contextlib.suppress(ChildProcessError):
        while True:
            _kill_all({inmate} - {ended})
            dead, how = os.waitpid(-1, 0)
            ended, status = (dead, how) if dead == inmate else (ended, status)
    return status


def _kill_all(found: set[int]) -> None:
    """Stop all descendants before killing any: those of a fork bomb would use the room."""
    stopped: set[int] = set()
    found = found | _descendants(os.getpid())
    while found:
        _signal(found, signal.SIGSTOP)
        stopped |= found
        found = _descendants(os.getpid()) - stopped
    _signal(stopped, signal.SIGKILL)


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _descendants(pid: int) -> set[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
            children = {int(word) for word in file.read().split()}
    except (FileNotFoundError, ProcessLookupError):  # it ended, or the kernel keeps no list
        return set()
    return children.union(*map(_descendants, children))


def _remove(folder: str) -> None:
    """The harness removes it, too; if it was killed, this is all that does."""
    LIBC.umount2(folder.encode(), DETACH)  # the inmate's tree, in these namespaces only
    if not os.path.ismount(folder):
        shutil.rmtree(folder, ignore_errors=True)
