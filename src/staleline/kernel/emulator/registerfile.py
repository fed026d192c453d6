# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers of an emulated CPU, read and written by one C call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial

import unicorn
from unicorn.unicorn_py3.unicorn import uclib

__all__ = ["RegisterFile"]


class RegisterFile:
    """Some integer registers of one engine, in the given order.

    Args:
        engine: The engine.
        registers: Their Unicorn numbers; each at most 64 bits wide.
    """

    def __init__(self, engine: unicorn.Uc, registers: Sequence[int]) -> None:
        # Unicorn's Python binding builds these arrays anew for every call, which took four fifths
        # of the time of a run.
        count = len(registers)
        self._values = (ctypes.c_uint64 * count)()
        start = ctypes.addressof(self._values)
        numbers = (ctypes.c_int * count)(*registers)
        places = (ctypes.c_void_p * count)(*(start + 8 * index for index in range(count)))
        arguments = (
            engine._uch,
            ctypes.cast(numbers, ctypes.POINTER(ctypes.c_int)),
            ctypes.cast(places, ctypes.POINTER(ctypes.c_void_p)),
            count,
        )
        self._read = partial(uclib.uc_reg_read_batch, *arguments)
        self._write = partial(uclib.uc_reg_write_batch, *arguments)

    def read(self) -> list[int]:
        """Their values."""
        if status := self._read():
            raise unicorn.UcError(status)
        return self._values[:]

    def write(self, values: Sequence[int]) -> None:
        """Set all of them."""
        self._values[:] = values  # type: ignore[call-overload]  # any sequence will do
        if status := self._write():
            raise unicorn.UcError(status)
