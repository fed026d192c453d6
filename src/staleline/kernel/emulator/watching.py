# SPDX-License-Identifier: GPL-2.0-or-later
"""Be told what emulated code accesses and executes, while it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import unicorn

from staleline.kernel.emulator.hooks import Hooks

__all__ = ["EVERYWHERE", "accesses_told", "blocks_told", "instructions_told"]

EVERYWHERE: Final = range(1 << 64)
_ACCESSES: Final = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE


@contextmanager
def accesses_told(
    engine: unicorn.Uc,
    hooks: Hooks,
    tell: Callable[[int, int, bool], None],
    where: Sequence[range],
) -> Iterator[None]:
    """Tell every access to these addresses before it takes effect: address, size, is it a write."""
    teller = _Teller(tell)
    with _hooked(engine, hooks, [(_ACCESSES, teller.access, part) for part in where]):
        yield


@contextmanager
def instructions_told(
    engine: unicorn.Uc, hooks: Hooks, tell: Callable[[int, int], None]
) -> Iterator[None]:
    """Tell every instruction before it runs: address, size."""
    teller = _Teller(tell)
    with _hooked(engine, hooks, [(unicorn.UC_HOOK_CODE, teller.instruction)]):
        yield


@contextmanager
def blocks_told(
    engine: unicorn.Uc, hooks: Hooks, tell: Callable[[int, int], None]
) -> Iterator[None]:
    """Tell every run of instructions without a jump before it runs: address, size."""
    teller = _Teller(tell)
    with _hooked(engine, hooks, [(unicorn.UC_HOOK_BLOCK, teller.instruction)]):
        yield


class _Teller:
    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def access(self, kind: int, address: int, size: int, _: int) -> None:
        self._tell(address, size, kind == unicorn.UC_MEM_WRITE)

    def instruction(self, address: int, size: int) -> None:
        self._tell(address, size)


@contextmanager
def _hooked(engine: unicorn.Uc, hooks: Hooks, wanted: Sequence[tuple[Any, ...]]) -> Iterator[None]:
    """Code run inside calls these; translations made without them are dropped."""
    engine.ctl_flush_tb()
    added = [hooks.add(*one) for one in wanted]
    try:
        yield
    finally:
        for hook in added:
            hooks.remove(hook)
        engine.ctl_flush_tb()
