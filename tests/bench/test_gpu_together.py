"""Ctrl-C and TERM while work runs side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from threading import Event

import pytest

from bench.gpu.together import deferred, together
from client.signals import FOR_MAIN, interrupt_once
from tests.harness import ROOT

LIMIT_S = 60.0
AT_ANY_MOMENT = """
import os, random, signal, sys, time
from bench.gpu.together import together

interrupted = 0
for number in range(400):
    if not (hand := os.fork()):
        time.sleep(random.Random(number).uniform(0, 0.004))
        os.kill(os.getppid(), signal.SIGINT)
        os._exit(0)
    try:
        try:
            together([lambda: time.sleep(0.001)] * 4)
        finally:
            os.waitpid(hand, 0)
    except KeyboardInterrupt:
        interrupted += 1
print(interrupted)
"""


def test_it_ends_at_whatever_moment_the_signal_comes() -> None:
    """No thread waits for a lock that an interrupted one still holds."""
    done = subprocess.run(
        [sys.executable, "-c", AT_ANY_MOMENT], cwd=ROOT, capture_output=True, timeout=LIMIT_S
    )
    assert not done.returncode, done.stderr
    assert 350 < int(done.stdout) <= 400  # Python loses those that come just after, in a finalizer


def test_all_end_when_one_signal_comes_and_none_begins_after() -> None:
    stopped, began = Event(), Event()

    def work() -> int:
        began.set()
        return subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"]).returncode

    def interrupt() -> None:
        began.wait(LIMIT_S)
        os.kill(os.getpid(), signal.SIGINT)

    hand = threading.Thread(target=interrupt)
    hand.start()
    with pytest.raises(KeyboardInterrupt):
        together([work, work], stopped=stopped)
    hand.join()
    assert stopped.is_set()
    begun: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        together([lambda: begun.append(1)], stopped=stopped)
    assert not begun


def test_the_first_error_is_raised_after_all_have_ended() -> None:
    ended: list[float] = []

    def fail() -> None:
        raise ValueError("the first")

    def last() -> None:
        time.sleep(0.1)
        ended.append(time.monotonic())

    with pytest.raises(ValueError, match="the first"):
        together([fail, last])
    assert ended
    assert together([lambda: 1, lambda: 2]) == [1, 2]


@pytest.mark.parametrize("number", sorted(FOR_MAIN))
def test_a_signal_comes_after_the_block(handlers: None, number: signal.Signals) -> None:
    interrupt_once(*FOR_MAIN)
    ended = []
    with pytest.raises(KeyboardInterrupt), deferred() as came:
        for _ in range(2):
            signal.raise_signal(number)
        ended.append(came)
    assert ended == [[number, number]]


def test_the_first_interrupts_and_no_other_does_anything(handlers: None) -> None:
    interrupt_once(*FOR_MAIN)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    for number in FOR_MAIN:
        signal.raise_signal(number)
        with deferred():
            signal.raise_signal(number)
