"""One server in the foreground: its log is shown as it grows, until Ctrl-C or the engine's death.

The engine writes into its log, and what is shown is read from there: the log is whole whatever the
terminal does, and an engine never waits for a terminal that has stopped.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from server.fleet import Fleet, Stopped, say
from server.options import Options
from server.plan import Plan

LOOK_S = 0.1
LAST_S = 5.0  # for the rest, at the end; a terminal that has stopped would hold us for ever
CHUNK_BYTES = 65_536


class Shown(threading.Thread):
    """Copies a log to stdout once it is started. Use with `with`: at its end all is copied."""

    def __init__(self, log: Path) -> None:
        super().__init__(daemon=True, name="shown-log")
        self._log, self._ended = log, threading.Event()

    def __enter__(self) -> Shown:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self.is_alive():
            self.join(LAST_S)

    def run(self) -> None:
        with suppress(OSError), self._log.open("rb") as log:  # a closed terminal ends the copy only
            last = False
            while not last:
                last = self._ended.wait(LOOK_S)
                while chunk := log.read(CHUNK_BYTES):
                    while chunk:  # past sys.stdout, whose buffer would keep what cannot be written
                        chunk = chunk[os.write(1, chunk) :]


def serve(plan: Plan, options: Options, environ: Mapping[str, str], following: str) -> int:
    """following: what to do once it answers. Raises RunError where the engine has died."""
    (replica,), began, ready = plan.replicas, time.monotonic(), False
    with Shown(replica.log) as shown, Fleet(plan, options, environ) as fleet:
        try:
            fleet.start()
            shown.start()
            fleet.wait_until_ready()
            ready = True
            say(f"ready after {time.monotonic() - began:.0f} s: {replica.url}. {following}")
            fleet.watch()
        except Stopped:
            say(f"stopping the server; its log stays: {replica.log}")
    return 0 if ready else 130
