"""A server for a part of a sweep: the competition's launch script as a child process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from competition.profile import Profile
from core.errors import RunError, SetupError
from server.ready import Never, NotYet, generate

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"  # the server is for this sweep alone
ASK_S, PAUSE_S = 30.0, 0.5
END_S = 120.0  # an engine of many GPUs takes its time
# As competition/shell/python.sh starts it: the folder one stands in hides no library.
START = """import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)"""


@contextmanager
def launched(
    profile: Profile, environ: Mapping[str, str], flags: Sequence[str], log: Path
) -> Iterator[str]:
    """The server's URL, for the duration of the block. Raises SetupError, RunError.

    environ: with MODEL, TP and PORT, as the launch script wants them; flags: its own.
    """
    port = int(environ["PORT"])
    _require_free(port)
    command = [sys.executable, "-P", "-c", START, str(ROOT), "competition.launch"]
    with subprocess.Popen(
        [*command, "--profile", profile.name, *flags],
        env={**environ, "HOST": HOST, "SERVER_LOG": str(log)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the server's log once more
        start_new_session=True,  # Ctrl-C is for the sweep, which then ends it
    ) as child:
        try:
            _wait(child, profile.engine, port, log)
            yield f"http://{HOST}:{port}"
        finally:
            _end(child)


def _require_free(port: int) -> None:
    """Else the points would be measured on whatever answers there."""
    with socket.socket() as asking:
        asking.settimeout(ASK_S)
        if asking.connect_ex((HOST, port)) == 0:
            raise SetupError(
                f"--launch: something listens at port {port} already: stop it, or export PORT"
            )


def _wait(child: subprocess.Popen[bytes], engine: str, port: int, log: Path) -> None:
    """Until it generates. The launch script has the time limit: when it gives up, it ends."""
    while True:
        if (code := child.poll()) is not None:
            raise RunError(f"the server ended with exit code {code} before it was ready: see {log}")
        try:
            generate(engine, HOST, port, ASK_S)
        except NotYet:
            time.sleep(PAUSE_S)
        except Never as reason:
            raise RunError(f"the server refuses what is measured ({reason}): see {log}") from None
        else:
            return


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
