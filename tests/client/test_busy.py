"""CPU shares, second by second, also when samples come late."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import client.busy
from client.busy import BusyMeter


class Clock:
    """A process whose wall and CPU time a test sets."""

    def __init__(self) -> None:
        self.wall_s, self.cpu_s = 1000.0, 3.0

    def run(self, wall_s: float, share: float) -> None:
        self.wall_s += wall_s
        self.cpu_s += wall_s * share


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    usage = SimpleNamespace(
        RUSAGE_SELF=0,
        getrusage=lambda _: SimpleNamespace(ru_utime=clock.cpu_s / 2, ru_stime=clock.cpu_s / 2),
    )
    monkeypatch.setattr(client.busy, "resource", usage)
    monkeypatch.setattr(client.busy, "time", SimpleNamespace(monotonic=lambda: clock.wall_s))
    return clock


def test_what_was_used_before_the_start_does_not_count(clock: Clock) -> None:
    meter = BusyMeter()
    meter.start()
    for share in (0.5, 0.5, 1.0, 0.0):
        clock.run(0.5, share)
        meter.sample()
    clock.run(0.5, 1.0)
    account = meter.account("LoadGen", (1, 2))
    assert account.busy == pytest.approx((0.5, 0.5))
    assert (account.cpu_s, account.wall_s) == pytest.approx((1.5, 2.5))
    assert (account.name, account.stall_counts) == ("LoadGen", (1, 2))


def test_late_samples_do_not_stretch_a_second(clock: Clock) -> None:
    meter = BusyMeter()
    meter.start()
    for wall_s, share in ((1.25, 0.8), (3.0, 0.4), (0.8, 0.4)):
        clock.run(wall_s, share)
        meter.sample()
    account = meter.account("worker 0", ())
    assert account.busy == pytest.approx((0.8, 0.25 * 0.8 + 0.75 * 0.4, 0.4, 0.4, 0.4))


def test_less_than_a_second_has_totals_only(clock: Clock) -> None:
    meter = BusyMeter()
    meter.start()
    clock.run(0.4, 0.5)
    account = meter.account("worker 0", ())
    assert account.busy == () and account.cpu_s == pytest.approx(0.2)


def test_the_real_clocks_are_read() -> None:
    meter = BusyMeter()
    meter.start()
    sum(i * i for i in range(2_000_000))
    account = meter.account("worker 0", ())
    assert 0 < account.cpu_s <= account.wall_s * 1.5
