# SPDX-License-Identifier: GPL-2.0-or-later
"""A limit on the processor time of emulated code.

Unicorn has one, of wall-clock time, but polls it every few microseconds from a thread it starts
for each run, which costs more than the runs themselves. Here one thread looks twenty times a
second, and a busy machine ends nothing sooner.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

__all__ = ["Watchdog"]

_INTERVAL: Final = 0.05


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
        while not self._left.wait(_INTERVAL):
            with self._deciding:
                # Who was limited and rests may have ended, and its clock with it.
                is_limited = self._deadline != float("inf")
                if is_limited and time.clock_gettime(self._clock) > self._deadline:
                    self._stop()
