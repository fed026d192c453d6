# SPDX-License-Identifier: GPL-2.0-or-later
"""A limit on the processor time of emulated code, and what tells early that it has no end.

Unicorn has a limit, of wall-clock time, but polls it every few microseconds from a thread it starts
for each run, which costs more than the runs themselves. Here one thread looks a hundred times in a
second of processor time, and a busy machine ends nothing sooner.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Final

from staleline.kernel.addresses import KERNEL_HALF

__all__ = ["Circle", "Watchdog"]

#: Seconds of this process's time between two looks, and of any time at most.
_INTERVAL: Final = 0.01
_LONGEST: Final = 0.05
#: Passes of a loop that are looked at, and those at whose end memory is.
_FIRST_PASS: Final = 2
_MOST_PASSES: Final = 64
_MOST_LOOKS: Final = 4
#: How far a pointer gets in as many passes if it walks.
_FAR: Final = 8 * (_MOST_PASSES - _FIRST_PASS)


class Watchdog:
    """Stops what is running once it has taken too long; watches while entered.

    Entering again from inside is cheap, so enter around many short runs. It goes on stopping
    until it may rest, since a run may start just after it was told to stop.

    Args:
        stop: Ends what is running, from another thread; without effect if nothing is.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._depth = 0
        self._deadline = float("inf")
        self._clock = time.CLOCK_MONOTONIC
        self._deciding = threading.Lock()  # so that nothing is stopped for what ran before it
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def limit(self, seconds: float, stop: Callable[[], None] | None = None) -> None:
        """Stop what this thread runs after `seconds` more; from here on by `stop` if given."""
        with self._deciding:
            self._stop = stop or self._stop
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            self._deadline = time.clock_gettime(self._clock) + seconds

    def rest(self) -> None:
        """Nothing is running any more."""
        with self._deciding:
            self._deadline = float("inf")

    def __enter__(self) -> Watchdog:
        self._depth += 1
        if self._depth == 1:
            self._left.clear()
            self._deadline = float("inf")
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._thread is not None:
            self._left.set()
            self._thread.join()

    def _watch(self) -> None:
        interval, used, now = _INTERVAL, time.process_time(), time.monotonic()
        while not self._left.wait(interval):
            # Where others take the processor, as many looks would take more of what is left of it.
            used_before, used = used, time.process_time()
            before, now = now, time.monotonic()
            share = (used - used_before) / (now - before)
            interval = _LONGEST if share * _LONGEST <= _INTERVAL else _INTERVAL / min(share, 1.0)
            with self._deciding:
                # Who was limited and rests may have ended, and its clock with it.
                is_limited = self._deadline != float("inf")
                if is_limited and time.clock_gettime(self._clock) > self._deadline:
                    self._stop()


class Circle:
    """Code that comes back to a place in the state in which it was there before has no end.

    It may change memory in between, as long as it changes it back.

    Attributes:
        is_closed: It did.
        walks: It came by often, and further on in memory each time: it does not merely wait.

    Args:
        registers: The registers as they are now.
        state: Everything else that decides what the code does.
        stop: Ends what is running.
    """

    def __init__(
        self,
        registers: Callable[[], Sequence[int]],
        state: Callable[[], Hashable],
        stop: Callable[[], None],
    ) -> None:
        self._registers, self._state, self._stop = registers, state, stop
        self._first: Sequence[int] | None = None
        self._before: Hashable = None
        self._passes = self._looks = 0
        self.is_closed = self.walks = False

    def come_by(self, _address: int, _size: int) -> None:
        """The code is at the place."""
        self._passes += 1
        # Not the first time, when it has not gone anywhere yet and is met in another way.
        if self._passes == _FIRST_PASS:
            self._first, self._before = self._registers(), self._state()
        elif self._passes > _FIRST_PASS and self._registers() == self._first:
            now = self._state()
            self.is_closed = now == self._before
            self._before = now
            self._looks += 1
        if self._passes > _MOST_PASSES and self._first is not None:
            pairs = zip(self._first, self._registers(), strict=True)
            self.walks = any(
                before in KERNEL_HALF and abs(now - before) >= _FAR for before, now in pairs
            )
        if self.is_closed or self._passes > _MOST_PASSES or self._looks > _MOST_LOOKS:
            self._stop()
