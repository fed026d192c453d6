# SPDX-License-Identifier: GPL-2.0-or-later
"""Be told what emulated code accesses and executes, while it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import unicorn

from staleline.kernel.weakhook import weakly

__all__ = ["EVERYWHERE", "accesses_told", "instructions_told"]

EVERYWHERE: Final = range(1 << 64)
_MASK_64: Final = (1 << 64) - 1
_ACCESSES: Final = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE


@contextmanager
def accesses_told(
    engine: unicorn.Uc, tell: Callable[[int, int, bool], None], where: Sequence[range]
) -> Iterator[None]:
    """Tell every access to these addresses before it takes effect: address, size, is it a write."""
    teller = _Teller(tell)
    hook = weakly(teller.access)
    with _hooked(engine, [(_ACCESSES, hook, None, part.start, part.stop - 1) for part in where]):
        yield


@contextmanager
def instructions_told(engine: unicorn.Uc, tell: Callable[[int, int], None]) -> Iterator[None]:
    """Tell every instruction before it runs: address, size."""
    teller = _Teller(tell)
    with _hooked(engine, [(unicorn.UC_HOOK_CODE, weakly(teller.instruction))]):
        yield


class _Teller:
    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def access(
        self, _: unicorn.Uc, kind: int, address: int, size: int, __: int, ___: object
    ) -> None:
        self._tell(address & _MASK_64, size, kind == unicorn.UC_MEM_WRITE)

    def instruction(self, _: unicorn.Uc, address: int, size: int, __: object) -> None:
        self._tell(address, size)


@contextmanager
def _hooked(engine: unicorn.Uc, hooks: Sequence[tuple[Any, ...]]) -> Iterator[None]:
    """Code run inside calls these; translations made without them are dropped."""
    engine.ctl_flush_tb()
    handles = [engine.hook_add(*hook) for hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            engine.hook_del(handle)
        engine.ctl_flush_tb()
