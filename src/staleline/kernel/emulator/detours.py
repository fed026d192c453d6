# SPDX-License-Identifier: GPL-2.0-or-later
"""Let emulated code go another way at one of the times that it comes to an instruction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import unicorn
from unicorn import x86_const as x86

from staleline.kernel.emulator.hooks import Hooks

__all__ = ["detoured"]


class _Visits:
    """Counts, in whichever engine an instruction is executed."""

    def __init__(self, left: int, target: int) -> None:
        self.left, self.target = left, target


class _Visited:
    """One engine at the instruction."""

    def __init__(self, engine: unicorn.Uc, visits: _Visits) -> None:
        self._engine, self._visits = engine, visits

    def visit(self, _address: int, _size: int) -> None:
        """Before it is executed."""
        # Below zero the detour was taken: it is taken once.
        if self._visits.left == 0:
            self._engine.reg_write(x86.UC_X86_REG_RIP, self._visits.target)
        self._visits.left -= 1


@contextmanager
def detoured(
    engines: Sequence[tuple[unicorn.Uc, Hooks]], address: int, visits: int, target: int
) -> Iterator[None]:
    """After so many visits to the address, in all engines together, go on at the target once."""
    count = _Visits(visits, target)
    places = [_Visited(engine, count) for engine, _ in engines]
    added = []
    for (engine, hooks), place in zip(engines, places, strict=True):
        engine.ctl_remove_cache(address, address + 1)  # what was translated has no hook
        where = range(address, address + 1)
        added.append(hooks.add(unicorn.UC_HOOK_CODE, place.visit, where))
    try:
        yield
    finally:
        for (engine, hooks), hook in zip(engines, added, strict=True):
            hooks.remove(hook)
            engine.ctl_remove_cache(address, address + 1)
