# SPDX-License-Identifier: GPL-2.0-or-later
"""What takes too long is stopped, and stopped again until it has ended."""

from __future__ import annotations

import threading
import time

from staleline.kernel.emulator.watchdog import Watchdog


class Work:
    """Goes on until it was told to stop often enough."""

    def __init__(self) -> None:
        self.told = threading.Semaphore(0)
        self.watchdog = Watchdog(self.told.release)


def test_it_goes_on_stopping():
    work = Work()
    with work.watchdog as watchdog:
        watchdog.limit(0)
        assert work.told.acquire(timeout=20)
        assert work.told.acquire(timeout=20)


def test_what_is_in_time_is_left_alone():
    work = Work()
    with work.watchdog as watchdog:
        watchdog.limit(1000)
        assert not work.told.acquire(timeout=0.3)


def test_time_without_a_processor_does_not_count():
    """What waits here does so as a process does that others do not let run."""
    work = Work()
    with work.watchdog as watchdog:
        watchdog.limit(0.5)
        assert not work.told.acquire(timeout=1.5)
        begun = time.process_time()
        while time.process_time() < begun + 1:
            pass
        assert work.told.acquire(timeout=20)


def test_what_rests_is_left_alone():
    work = Work()
    with work.watchdog as watchdog:
        watchdog.limit(0)
        assert work.told.acquire(timeout=20)
        watchdog.rest()
        while work.told.acquire(blocking=False):
            pass
        assert not work.told.acquire(timeout=0.3)


def test_nothing_is_watched_outside():
    """And a limit of before does not hold inside."""
    work = Work()
    with work.watchdog as watchdog:
        watchdog.limit(0)
        assert work.told.acquire(timeout=20)
    with work.watchdog:
        while work.told.acquire(blocking=False):
            pass
        assert not work.told.acquire(timeout=0.3)


def test_entering_again_starts_no_other_thread():
    watchdog = Work().watchdog
    with watchdog:
        one = set(threading.enumerate())
        with watchdog:
            assert set(threading.enumerate()) <= one
        assert set(threading.enumerate()) >= one
    assert set(threading.enumerate()) < one
