"""How often one address, or one team, may submit: a sliding minute for each."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from core.errors import ConfigError

WINDOW_S = 60.0
KEYS_LIMIT = 100_000  # remembered at once, so that many addresses cannot fill the memory


class RateLimit:
    """Counts events by key. Thread-safe: Gradio calls from several threads."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._seen: dict[str, deque[float]] = {}
        self._lock = Lock()

    def count(self, key: str) -> None:
        """Raises ConfigError for one event too many within the last minute."""
        now = self._clock()
        with self._lock:
            if key not in self._seen and len(self._seen) >= KEYS_LIMIT:
                self._forget(now)
            times = self._seen.setdefault(key, deque())
            while times and times[0] <= now - WINDOW_S:
                times.popleft()
            if len(times) >= self._per_minute:
                wait_s = times[0] + WINDOW_S - now
                raise ConfigError(
                    f"more than {self._per_minute} submissions in a minute; "
                    f"wait {wait_s:.0f} s and send it again"
                )
            times.append(now)

    def _forget(self, now: float) -> None:
        """Those that are quiet; all, where none is."""
        busy = {key: times for key, times in self._seen.items() if times[-1] > now - WINDOW_S}
        self._seen = busy if len(busy) < KEYS_LIMIT else {}
