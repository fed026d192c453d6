# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks of an engine that cost little when they are called.

Unicorn's Python binding puts three calls around each hook; a boot meets thousands. Here the C
library calls the function itself.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import unicorn
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

__all__ = ["EVERYWHERE", "Hooks", "accesses_told", "blocks_told", "instructions_told"]

# Signatures of uc_cb_hookinsn_cpuid_t and its like, unicorn/unicorn.h and x86.h (2.1.4); the
# first argument is the engine, the last what `uc_hook_add` was given.
_ENGINE = _USER = ctypes.c_void_p
_CPUID = ctypes.CFUNCTYPE(ctypes.c_int, _ENGINE, _USER)
_INTERRUPT = ctypes.CFUNCTYPE(None, _ENGINE, ctypes.c_uint32, _USER)
_INVALID = ctypes.CFUNCTYPE(ctypes.c_bool, _ENGINE, _USER)
_CODE = ctypes.CFUNCTYPE(None, _ENGINE, ctypes.c_uint64, ctypes.c_uint32, _USER)
_ACCESS = ctypes.CFUNCTYPE(
    None, _ENGINE, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int64, _USER
)
_BAD_ACCESS = ctypes.CFUNCTYPE(
    ctypes.c_bool, _ENGINE, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int64, _USER
)
_PORT_IN = ctypes.CFUNCTYPE(ctypes.c_uint32, _ENGINE, ctypes.c_uint32, ctypes.c_int, _USER)
_PORT_OUT = ctypes.CFUNCTYPE(None, _ENGINE, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32, _USER)
_READ_DEVICE = ctypes.CFUNCTYPE(ctypes.c_uint64, _ENGINE, ctypes.c_uint64, ctypes.c_uint, _USER)
_WRITE_DEVICE = ctypes.CFUNCTYPE(
    None, _ENGINE, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, _USER
)
_BY_KIND: Final[dict[int, Any]] = {
    unicorn.UC_HOOK_INTR: _INTERRUPT,
    unicorn.UC_HOOK_INSN_INVALID: _INVALID,
    unicorn.UC_HOOK_CODE: _CODE,
    unicorn.UC_HOOK_BLOCK: _CODE,
    unicorn.UC_HOOK_MEM_INVALID: _BAD_ACCESS,
    unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE: _ACCESS,
    unicorn.UC_HOOK_MEM_READ: _ACCESS,
    unicorn.UC_HOOK_MEM_WRITE: _ACCESS,
}
_BY_INSTRUCTION: Final[dict[int, Any]] = {
    x86.UC_X86_INS_CPUID: _CPUID,
    x86.UC_X86_INS_IN: _PORT_IN,
    x86.UC_X86_INS_OUT: _PORT_OUT,
}
_NOTHING: Final = ctypes.c_void_p(0)

EVERYWHERE: Final = range(1 << 64)
_ACCESSES: Final = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE


class Hooks:
    """The hooks of one engine; to be kept for as long as it."""

    def __init__(self, engine: unicorn.Uc) -> None:
        self._handle = engine._uch
        self._callbacks: dict[int, object] = {}
        self._failure: BaseException | None = None

    def add(self, kind: int, method: Callable[..., Any], where: range | None = None) -> int:
        """Call a method; it gets what Unicorn tells of the event, and nothing else.

        Args:
            kind: One of ``UC_HOOK_*``, but ``UC_HOOK_INSN``.
            method: Bound to an object that someone else keeps alive.
            where: Addresses; everywhere if None.

        Returns:
            What `remove` takes.
        """
        # A range that ends before it begins means everywhere (unicorn/unicorn.h, uc_hook_add()).
        first, last = (1, 0) if where is None else (where.start, where.stop - 1)
        return self._add(kind, _BY_KIND[kind](self._guarded(method)), first, last)

    def add_instruction(self, instruction: int, method: Callable[..., Any]) -> int:
        """Likewise, for one of ``UC_X86_INS_*``."""
        callback = _BY_INSTRUCTION[instruction](self._guarded(method))
        return self._add(unicorn.UC_HOOK_INSN, callback, 1, 0, ctypes.c_int(instruction))

    def add_device(self, where: range, read: Callable[..., Any], write: Callable[..., Any]) -> None:
        """Let a device answer at these addresses: `read` gets offset and size, `write` a value too.

        Both are methods, as in `add`; the device stays for as long as the engine.
        """
        reads, writes = (
            kind(self._guarded(method))
            for kind, method in ((_READ_DEVICE, read), (_WRITE_DEVICE, write))
        )
        start, size = ctypes.c_uint64(where.start), ctypes.c_uint64(len(where))
        _require(uclib.uc_mmio_map(self._handle, start, size, reads, _NOTHING, writes, _NOTHING))
        self._callbacks[-where.start] = (reads, writes)

    def remove(self, hook: int) -> None:
        """Do not call it any more."""
        _require(uclib.uc_hook_del(self._handle, ctypes.c_size_t(hook)))
        del self._callbacks[hook]

    def raise_failure(self) -> None:
        """Raise what a method raised meanwhile, which ended the emulation."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _add(self, kind: int, callback: object, first: int, last: int, *more: object) -> int:
        hook = ctypes.c_size_t()
        bounds = ctypes.c_uint64(first), ctypes.c_uint64(last)
        _require(
            uclib.uc_hook_add(
                self._handle, ctypes.byref(hook), kind, callback, _NOTHING, *bounds, *more
            )
        )
        self._callbacks[hook.value] = callback
        return hook.value

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """What C may call: no exception leaves it."""
        # A weak reference: a callback of ctypes refers to its function, so what that holds, as much
        # as an unpacked kernel, would live until the garbage collector comes by.
        function, owner = method.__func__, weakref.ref(method.__self__)  # type: ignore[attr-defined]

        def call(_: int, *arguments: int | None) -> Any:
            try:
                return function(owner(), *arguments[:-1])
            except BaseException as error:
                self._failure = self._failure or error
                uclib.uc_emu_stop(self._handle)
                return 0

        return call


def _require(status: int) -> None:
    if status:
        raise unicorn.UcError(status)


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
    added = [hooks.add(*hook) for hook in wanted]
    try:
        yield
    finally:
        for hook in added:
            hooks.remove(hook)
        engine.ctl_flush_tb()
