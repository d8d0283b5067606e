"""Hostile candidates: each ends soon as a failed sample or finds its attack refused, and harms nobody.

The attacks reach for `posix` and `io.open`, past the names that LiveCodeBench sets to None: it is the
sandbox that must hold. "Refused" attacks print that word when the kernel says no, so that a pass shows
which layer held. All run in full isolation and where namespaces are forbidden.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from accuracy import sandbox
from accuracy.lcb_problem import Problem, Test
from accuracy.lcb_run import CHILD, Limits, ProblemResult, run_problem
from accuracy.sandbox import LAYERS, Sandbox, SandboxLimits
from core.errors import SetupError

FULL, FALLBACK, BARE = LAYERS, LAYERS[1:], ()
both = pytest.mark.parametrize("layers", [FULL, FALLBACK], ids=["full", "no-namespaces"])
MEMORY, SHORT_S = 400 << 20, 0.4


def run(
    code: str, layers: tuple[str, ...], expected: str = "refused", test_s: float = 9
) -> ProblemResult:
    bounds = SandboxLimits(
        answer_bytes=1 << 20, disk_bytes=1 << 20, memory_bytes=MEMORY, layers=layers
    )
    problem = Problem("attack", (Test("1", expected, False), Test("2", expected, False)), None)
    return run_problem(code, problem, Limits(test_s, 0.3, bounds))


def wardens() -> set[str]:
    """Pids of sandboxes' processes; all carry the warden's command line."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"sandbox_enter" in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.add(path.parent.name)
        except OSError:
            continue  # it ended meanwhile
    return found


@pytest.fixture(scope="module")
def sibling() -> Iterator[Sandbox]:
    with Sandbox(CHILD, SandboxLimits()) as other:
        task = b'{"code": "", "func_name": "len", "timeout_s": 1}'
        assert other.ask(task, 10) == b"{}"
        yield other


@pytest.fixture(autouse=True)
def unharmed(sibling: Sandbox) -> Iterator[None]:
    """A sandbox that was started before still answers; no process and no folder is left."""
    before, began = wardens(), time.monotonic()
    folders = set(Path(tempfile.gettempdir()).glob("sandbox-*"))
    yield
    assert wardens() <= before
    assert set(Path(tempfile.gettempdir()).glob("sandbox-*")) <= folders
    assert time.monotonic() - began < 30  # a hang, not a measurement
    assert sibling.ask(b'"[1, 2]"', 10) == b'{"value": 2}'


LIBC = "if ctypes.CDLL(None).{} < 0: raise OSError"
FORBIDDEN = [
    "posix.fork()",
    "posix.execv('/bin/true', ['true'])",
    "posix.posix_spawn('/bin/true', ['true'], {})",
    "posix.setsid()",
    f"posix.kill({os.getpid()}, 9)",
    "posix.kill(posix.getppid(), 9)",
    "posix.kill(1, 9)",
    "posix.kill(-1, 9)",
    "posix.killpg(0, 9)",
    f"signal.pidfd_send_signal(posix.pidfd_open({os.getpid()}), 9)",
    "socket.socket()",
    "socket.socket(socket.AF_UNIX)",
    "posix.memfd_create('x')",
    "posix.open('/proc/self/environ', 0)",
    f"posix.open('/proc/{os.getpid()}/mem', 0)",
    "posix.open('/etc/passwd', 0)",
    f"posix.open({__file__!r}, 0)",
    f"posix.listdir({str(Path.home())!r} + '/..')",
    f"posix.open({__file__ + '.written'!r}, 0o102)",
    f"posix.unlink({__file__!r})",
    "posix.open('/usr/written', 0o102)",
    f"posix.mkdir({__file__ + '.folder'!r})",
    f"posix.unlink({os.__file__!r})",
    "f = io.open('big', 'wb', 0)\nwhile True: f.write(bytes(1 << 16))",
    *map(LIBC.format, ["unshare(0x10000000)", "ptrace(0, 0, 0, 0)", "prctl(1, 0, 0, 0, 0)"]),
    LIBC.format("mount(b'x', b'/tmp', b'tmpfs', 0, None)"),
    "for _ in range(200): threading.Thread(target=time.sleep, args=(99,)).start()",
]
ATTEMPT = """
import ctypes, io, os, posix, signal, socket, sys, threading, time
done = []
for body in {!r}:
    try:
        exec(body)
        done.append(body)
    except (OSError, RuntimeError):
        pass
if done: raise Exception(done)
print("refused")
"""


@both
def test_refused(layers: tuple[str, ...]) -> None:
    assert run(ATTEMPT.format(FORBIDDEN), layers).reason == "2 tests passed"


@both
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True: pass", "time limit"),
        ("x = bytearray(10 << 30)", "MemoryError"),
        ("x = []\nwhile True: x.append(bytes(1 << 22))", "MemoryError"),
        ("while True: print('x' * 4096)", "too much output"),
        ("print('\\ud800' * (1 << 19))", "more than 1048576 bytes"),
        ("import os\nos._exit(0)", "exit code 0"),
        ("import sys\nsys.setrecursionlimit(10**9)\ndef f(x): f([x]); return x\nf(0)", ""),
        ("import ctypes\nctypes.string_at(0)", "signal 11"),
        ("import posix\nposix.closerange(0, 999)", ""),
        ("print('\\ud800\\x00\\u202e' * 99)", "wrong answer"),
        ("raise Exception('\\ud800\\x1b[2J' * 99)", "ud800"),
        ("\x00", "compile"),
        (
            "import signal\nsignal.signal(14, 1)\nsignal.signal(15, 1)\nwhile True: pass",
            "time limit",
        ),
        ("while True:\n try:\n  while True: pass\n except BaseException: pass", "time limit"),
        ("import posix\nposix.write(3, b'\\xff' * 64)", "more than"),
        ("import posix\nposix.write(3, b'\\x10'+bytes(7)+b'{\"passed\": true}')", "wrong answer"),
        ("import posix\nposix.write(3, b'\\0\\0\\1'+bytes(5)+b'['*65536)", "would not give"),
        ("import posix\nposix.write(3, b'\\x15'+bytes(7)+b'{\"stdout\": [\"refused\"]}')", ""),
        ("import sys\nfor f in list(sys._current_frames().values()): f.clear()", ""),
        ("import os, shutil\nos.system('rm -rf /')\nprint('refused')", "NoneType"),
    ],
)
def test_failed(code: str, reason: str, layers: tuple[str, ...]) -> None:
    result = run(code, layers, test_s=SHORT_S if reason in ("time limit", "") else 9)
    assert not result.passed
    assert reason in result.reason
    assert result.reason.isascii()


@both
def test_deleting_everything_deletes_nothing(layers: tuple[str, ...]) -> None:
    kept = Path(tempfile.mkdtemp(dir="/var/tmp"))
    (kept / "file").touch()
    kept.chmod(0o777)
    code = """
import posix
def clear(folder, depth=0):
    if depth > 2: return
    for name in posix.listdir(folder):
        path = folder.rstrip('/') + '/' + name
        try:
            clear(path, depth + 1)
            posix.rmdir(path)
        except OSError:
            try: posix.unlink(path)
            except OSError: pass
for folder in ('/work', '/root', '/home', '/var/tmp', '/tmp', '.', '/dev', '/bin'):
    try: clear(folder)
    except OSError: pass
print("refused")
"""
    assert run(code, layers).passed
    assert (kept / "file").exists()
    (kept / "file").unlink()
    kept.rmdir()


@both
def test_no_connection_reaches_a_server(layers: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        body = f"socket.create_connection(('127.0.0.1', {port}), 1)"
        assert run(ATTEMPT.format([body]), layers).reason == "2 tests passed"
        with pytest.raises(BlockingIOError):
            server.accept()


@both
def test_expected_outputs_and_secrets_are_not_there(
    layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "expected-secret")
    code = """
import gc, os, sys
seen = [repr(o) for o in gc.get_objects() if isinstance(o, (dict, list, tuple))]
seen += [str(os.environ), str(sys.argv)]
wanted = "expected-" + "secret"
print(any(wanted in text for text in seen))
"""
    assert run(code, layers, "expected-secret").reason == "test 1 of 2: wrong answer"
    assert run(code, layers, "False").passed


BOMB = "import posix\nwhile True:\n try: posix.fork()\n except OSError: pass"
DAEMON = """
import posix, time
if posix.fork() == 0:
    posix.setsid()
    if posix.fork() == 0:
        while True: time.sleep(1)
    posix._exit(0)
print("refused")
"""


@pytest.mark.parametrize(
    "layers", [FULL[:2], FULL, FALLBACK], ids=["no-seccomp", "full", "seccomp"]
)
@pytest.mark.parametrize("code", [BOMB, DAEMON], ids=["bomb", "daemon"])
def test_no_process_survives(code: str, layers: tuple[str, ...]) -> None:
    """The fixture looks for them; without seccomp the process namespace must be enough."""
    result = run(code, layers, test_s=SHORT_S)
    assert result.passed == (code == DAEMON and layers == FULL[:2])


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path.home().stat().st_mode & 1,
    reason="needs root, to become another user, and an interpreter that others may read",
)
@pytest.mark.parametrize("code", [BOMB, DAEMON], ids=["bomb", "daemon"])
def test_limits_alone_are_enough_to_end_it(code: str) -> None:
    run(code, BARE, test_s=SHORT_S)


@pytest.mark.parametrize(
    ("name", "told"),
    [("e.make_namespaces", "namespaces"), ("l._new_root", "file tree of its own")],
)
def test_a_missing_layer_is_told_once(
    name: str, told: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox._warn_once.cache_clear()
    monkeypatch.setattr(sandbox, "ENTER", FORBIDDING.replace("NAME", name))
    with caplog.at_level(logging.WARNING):
        assert run(ATTEMPT.format(FORBIDDEN), FULL).reason == "2 tests passed"
        assert run("print('refused')", FULL).passed
    assert [record.message.count(f"no {told} (not here)") for record in caplog.records] == [1]


FORBIDDING = """
import sys; sys.path.insert(0, {!r})
from accuracy import sandbox_enter as e, sandbox_layers as l
def refuse(*_): raise PermissionError(1, "not here")
NAME = refuse
e.main()
"""


def test_a_sandbox_that_cannot_start_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "ENTER", "raise SystemExit('no {!r}')")
    with pytest.raises(SetupError, match="did not start"):
        run("print('refused')", FULL)


def test_the_harness_dies_and_leaves_nothing() -> None:
    before = wardens()
    code = (
        "import os; from accuracy.sandbox import *\n"
        f"Sandbox({CHILD!r}, SandboxLimits()).__enter__(); os.kill(os.getpid(), 9)"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == -9
    end = time.monotonic() + 10
    while wardens() - before and time.monotonic() < end:
        time.sleep(0.02)  # the fixture then looks for processes and folders
