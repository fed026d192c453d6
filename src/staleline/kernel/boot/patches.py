# SPDX-License-Identifier: GPL-2.0-or-later
"""Patch into the machine's memory what every boot patches into its code."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from staleline.kernel.derivation import DerivationError
from staleline.kernel.image.alternatives import Alternative, always_patched

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.image.image import KernelImage

__all__ = ["apply_always"]

_APPLIED: WeakKeyDictionary[MachineMemory, list[Alternative]] = WeakKeyDictionary()


def apply_always(image: KernelImage, memory: MachineMemory) -> None:
    """Patch it into a pristine image; to be done before its code is run for the first time."""
    if memory not in _APPLIED:
        _APPLIED[memory] = always_patched(image)
    for one in _APPLIED[memory]:
        with suppress(DerivationError):  # no such place
            memory.write(one.address, one.code)
