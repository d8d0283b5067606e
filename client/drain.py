"""Draining: streams whose socket has left the event loop and is read every few milliseconds.

Waking up for an event costs several times what reading it costs, and after the first token only the
end's instant matters. So a fast stream leaves the loop and is looked at now and then, which finds
several events at once. The price is that an end is seen late by up to the time between two looks; it
only ever makes a result worse, it is counted, and by itself (`auto`) it stays within 1 % of the
stream's age, so within 1 % of its TPOT.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from client.exchange import NEVER_NS, Exchange
from client.reactor import Reactor
from core.account import DrainAccount

if TYPE_CHECKING:
    from client.connection import Connection

MS = 1_000_000
TICK_NS = 2 * MS  # looks are spread over ticks, so that none is long enough to delay a first token
AGE_SHARE = 100  # auto: the time between looks is at most this part of the stream's age
MIN_PERIOD_NS = 10 * MS  # auto: looking more often than this saves nothing
EVENTS_A_LOOK = 2  # auto: nor does a look that finds fewer
MAX_PERIOD_NS = 50 * MS
ON_ABOVE = 5_000  # auto: reads a second of this process; below it the loop costs a few per cent
OFF_BELOW = 2_500
RECHECK_NS = 250 * MS
MAX_EMPTY_LOOKS = 8  # in a row; then the stream is slow, and better off in the loop


class Drain:
    """Looks after the streams that have left the loop. `period_ms` None: auto, 0: off."""

    def __init__(self, reactor: Reactor, period_ms: float | None) -> None:
        self._reactor = reactor
        self._auto = period_ms is None
        self._period_ns = MAX_PERIOD_NS if period_ms is None else int(period_ms * MS)
        self._on = not self._auto
        size = self._period_ns // TICK_NS + 2
        self._wheel: list[list[tuple[Connection, Exchange]]] = [[] for _ in range(size)]
        self._tick = 0  # the number of the next one; 0: none is set
        self._streams = 0
        self._reads = 0
        self._reads_before = 0
        self._ends = self._end_wait_sum_ns = self._end_wait_max_ns = 0

    def begin(self, exchange: Exchange) -> None:
        """The first token is in: when may the stream leave the loop?"""
        if self._period_ns:
            age_ns = AGE_SHARE * MIN_PERIOD_NS if self._auto else 0
            exchange.loop_since_ns = exchange.first_token_ns
            exchange.drain_after_ns = exchange.first_token_ns + age_ns

    def consider(self, connection: Connection, exchange: Exchange, now_ns: int) -> None:
        """Take the stream out of the loop, if that pays."""
        if not self._on or (self._auto and self._slow(exchange, now_ns)):
            exchange.drain_after_ns = now_ns + RECHECK_NS
            return
        exchange.drain_after_ns = NEVER_NS
        exchange.drained = True
        exchange.look_ns = now_ns
        connection.leave_loop()
        self._streams += 1
        if not self._tick:
            self._tick = now_ns // TICK_NS + 1
            self._reactor.at(self._tick * TICK_NS, self._turn)
        self._hang(connection, exchange, now_ns)

    def ended(self, connection: Connection, exchange: Exchange) -> None:
        """The drain has found the end of a stream; its connection is free again."""
        wait_ns = exchange.done_ns - exchange.look_ns
        self._ends += 1
        self._end_wait_sum_ns += wait_ns
        self._end_wait_max_ns = max(self._end_wait_max_ns, wait_ns)
        if connection.usable:
            connection.rejoin_loop()

    def adapt(self, loop_reads: int) -> None:
        """Auto: on or off, by the reads since the last call, a second ago; in the loop, and here."""
        rate = loop_reads + self._reads - self._reads_before
        self._reads_before = loop_reads + self._reads
        if self._auto:
            self._on = rate > (OFF_BELOW if self._on else ON_ABOVE)

    def account(self, loop_reads: int) -> DrainAccount:
        return DrainAccount(
            reads=loop_reads,
            drained_reads=self._reads,
            period_ns=self._period_ns,
            ends=self._ends,
            end_wait_sum_ns=self._end_wait_sum_ns,
            end_wait_max_ns=self._end_wait_max_ns,
        )

    def _slow(self, exchange: Exchange, now_ns: int) -> bool:
        """Whether a look would find too few events, by those since the stream came into the loop."""
        looks = (now_ns - exchange.loop_since_ns) / self._period(exchange, now_ns)
        return exchange.reads < EVENTS_A_LOOK * looks

    def _period(self, exchange: Exchange, now_ns: int) -> int:
        if not self._auto:
            return self._period_ns
        return max(TICK_NS, min(self._period_ns, (now_ns - exchange.first_token_ns) // AGE_SHARE))

    def _hang(self, connection: Connection, exchange: Exchange, now_ns: int) -> None:
        ticks = max(1, self._period(exchange, now_ns) // TICK_NS)
        self._wheel[(self._tick + ticks - 1) % len(self._wheel)].append((connection, exchange))

    def _turn(self) -> None:
        now_ns = monotonic_ns()
        wheel, tick = self._wheel, self._tick
        due, wheel[tick % len(wheel)] = wheel[tick % len(wheel)], []
        # A tick that comes late is not followed by a burst of others.
        self._tick = tick + 1
        for connection, exchange in due:
            self._look(connection, exchange)
        if self._streams:
            self._reactor.at(max((tick + 1) * TICK_NS, now_ns + TICK_NS // 2), self._turn)
        else:
            self._tick = 0

    def _look(self, connection: Connection, exchange: Exchange) -> None:
        now_ns = monotonic_ns()  # before it reads, so that the next look's wait is an upper bound
        if connection.exchange is exchange:
            found = connection.look(exchange)
            self._reads += found
            exchange.empty_looks = 0 if found else exchange.empty_looks + 1
        if connection.exchange is not exchange:  # it has ended, by this look or otherwise
            self._streams -= 1
            return
        exchange.look_ns = now_ns
        if not self._on or exchange.empty_looks > MAX_EMPTY_LOOKS:
            self._streams -= 1
            self._back(connection, exchange, now_ns)
        else:
            self._hang(connection, exchange, now_ns)

    def _back(self, connection: Connection, exchange: Exchange, now_ns: int) -> None:
        exchange.drained = False
        exchange.reads = exchange.empty_looks = 0
        exchange.loop_since_ns = now_ns
        exchange.drain_after_ns = now_ns + RECHECK_NS
        connection.rejoin_loop()
