# SPDX-License-Identifier: GPL-2.0-or-later
"""A limit on the time of emulated code, so far as this process had a processor.

On a busy machine a run would otherwise end before it has come to anything, and what it would have
shown be missed: what an image does must not depend on who else is at work.

Unicorn has one, but polls it every few microseconds from a thread it starts for each run,
which costs more than the runs themselves. Here one thread looks ten times a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

__all__ = ["Watchdog"]

_INTERVAL: Final = 0.1


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
        self._deciding = threading.Lock()  # so that nothing is stopped for what ran before it
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def limit(self, seconds: float, stop: Callable[[], None] | None = None) -> None:
        """Stop what is running after so many seconds of a processor's time.

        Args:
            seconds: From now.
            stop: By which, from here on, if it is given.
        """
        with self._deciding:
            self._stop = stop or self._stop
            self._deadline = time.process_time() + seconds

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
                if time.process_time() > self._deadline:
                    self._stop()
