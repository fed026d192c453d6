# SPDX-License-Identifier: GPL-2.0-or-later
"""Places at which emulated code is met; it may be let go another way at one of the times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import unicorn
from unicorn import x86_const as x86

from staleline.kernel.emulator.hooks import Hooks

__all__ = ["called", "detoured", "met"]


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
    with ExitStack() as places:
        for engine, hooks in engines:
            visited = _Visited(engine, count)
            places.enter_context(met(engine, hooks, address, visited.visit))
        yield


@contextmanager
def met(
    engine: unicorn.Uc, hooks: Hooks, address: int, meet: Callable[[int, int], None]
) -> Iterator[None]:
    """Call a method, of an object that someone else keeps, before an instruction is executed."""
    engine.ctl_remove_cache(address, address + 1)  # what was translated has no hook
    hook = hooks.add(unicorn.UC_HOOK_CODE, meet, range(address, address + 1))
    try:
        yield
    finally:
        hooks.remove(hook)
        engine.ctl_remove_cache(address, address + 1)


class _Called:
    """A function that tells when it is called."""

    def __init__(
        self, engine: unicorn.Uc, read: Callable[[int, int], int], at_call: Callable[[int], None]
    ) -> None:
        self._engine, self._read, self._at_call = engine, read, at_call

    def call(self, _address: int, _size: int) -> None:
        """Its return address lies on top of the stack."""
        self._at_call(self._read(self._engine.reg_read(x86.UC_X86_REG_RSP), 8))


@contextmanager
def called(
    engine: unicorn.Uc,
    hooks: Hooks,
    functions: Iterable[int],
    read: Callable[[int, int], int],
    at_call: Callable[[int], None],
) -> Iterator[None]:
    """Where functions are called, what they will return to is told.

    Args:
        engine: In which they are called.
        hooks: Its hooks.
        functions: Their addresses.
        read: Reads a number from memory, at an address and of a size.
        at_call: What it is told to.
    """
    told = _Called(engine, read, at_call)
    with ExitStack() as places:
        for function in functions:
            places.enter_context(met(engine, hooks, function, told.call))
        yield
