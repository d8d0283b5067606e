"""Replicas that are starting: which are ready, which never will be, how long they are waited for."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence

from server.options import Options
from server.process import Process
from server.ready import Asking

TAIL_LINES = 20


class Starting:
    """Asks every replica from now on. `least`: with so many ready, the others' time is short."""

    def __init__(
        self, engine: str, processes: Sequence[Process], least: int, options: Options
    ) -> None:
        self._began_s = time.monotonic()
        self._deadline_s = self._began_s + options.timeout_s
        self._least, self._options = least, options
        self._enough_s: float | None = None  # since when so many are ready
        self._asking = {
            process: Asking(engine, process.replica, self._deadline_s) for process in processes
        }
        for asking in self._asking.values():
            asking.start()

    @property
    def waiting(self) -> list[Process]:
        return [process for process, asking in self._asking.items() if not asking.ready]

    def lost(self) -> Iterator[tuple[Process, str]]:
        """Those that died, also when they had been ready, that refuse or took too long; and why."""
        limit_s, name = self._limit()
        late = time.monotonic() > limit_s
        for process, asking in list(self._asking.items()):
            index = process.replica.index
            if process.code() is not None:
                yield process, obituary(process)
            elif asking.refused:
                yield process, f"replica {index} refuses: {asking.refused}{_log(process)}"
            elif late and not asking.ready:
                heard = f" [{asking.heard}]" if asking.heard else ""
                yield process, f"replica {index} is not ready within {name}{heard}{_log(process)}"

    def drop(self, process: Process) -> None:
        """No longer to be waited for."""
        self._asking.pop(process).wanted = False

    def _limit(self) -> tuple[float, str]:
        """Until when to wait, and by which flag."""
        ready, options = len(self._asking) - len(self.waiting), self._options
        if ready < self._least:
            self._enough_s = None
        elif self._enough_s is None:
            self._enough_s = time.monotonic()
        if self._enough_s is not None:
            limit_s = self._enough_s + options.patience_s
            if limit_s < self._deadline_s:
                return limit_s, f"--patience {options.patience_s:g} s of {ready} others"
        return self._deadline_s, f"--timeout {options.timeout_s:g} s"

    def progress(self) -> str:
        waiting, total = self.waiting, len(self._asking)
        if not waiting:
            return f"{total} of {total} ready"
        slowest = max(waiting, key=Process.quiet_s)
        heard = self._asking[slowest].heard
        return (
            f"{time.monotonic() - self._began_s:.0f} s: {total - len(waiting)} of {total} ready; "
            f"replica {slowest.replica.index}, {slowest.quiet_s():.0f} s ago: "
            f"{slowest.last_line()}{heard and f' [{heard}]'}"
        )


def obituary(process: Process) -> str:
    code, replica = process.code() or 0, process.replica
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return f"REPLICA {replica.index} DIED {how} ({replica.url}){_log(process)}"


def _log(process: Process) -> str:
    lines = "".join(f"\n    {line}" for line in process.tail(TAIL_LINES))
    return f"; the end of {process.replica.log}:{lines}"
