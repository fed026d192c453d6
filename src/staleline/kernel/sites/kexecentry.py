# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a kexec, or a crash, get to the jump only after the others were told to stop.

``kernel_kexec()`` calls ``machine_shutdown()`` and then ``machine_kexec()``, or, for a jump back,
takes the others offline first (kernel/kexec_core.c, linux 5.10.262 to 7.3.4); ``__crash_kexec()``
calls ``machine_crash_shutdown()`` in between (the same file; crash_core.c since 6.9). What else
they do concerns devices, notifiers and the console, so they are not run: every way through their
code is followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]
from capstone import x86 as cx

from staleline.kernel.inventory.functioncode import instruction_at, leads_to

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["CRASH_ENTRY", "KEXEC_ENTRY", "Entry", "jumps_unprepared"]

_JUMP: Final = "machine_kexec"
#: More instructions than any of these functions has.
_MOST: Final = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """A function that ends in the jump.

    Attributes:
        functions: Names that it may have, the first that an image has counts.
        shut_down: What it calls before.
        instead: What may be called instead.
    """

    functions: tuple[str, ...]
    shut_down: str
    instead: tuple[str, ...] = ()


KEXEC_ENTRY: Final = Entry(
    ("kernel_kexec",),
    "machine_shutdown",
    # suspend_disable_secondary_cpus(), which is inline (include/linux/cpu.h).
    ("freeze_secondary_cpus",),
)
#: Without arguments that it saves registers by, gcc may split the rest of it off.
CRASH_ENTRY: Final = Entry(("__crash_kexec",), "machine_crash_shutdown")


def jumps_unprepared(image: KernelImage, entry: Entry) -> str | None:
    """Why it is not so that all ways to the jump come by the shutdown; None if it is."""
    name = next((one for one in entry.functions if one in image.symbols), None)
    if name is None:
        return f"the image has no symbol {entry.functions[0]}"
    start = image.symbols.only_address(name)
    if start is None:
        return f"ambiguous: several symbols named {name}"
    return _Ways(image, entry, name).followed(start)


class _Ways:
    """All ways through a function, up to where it shuts down."""

    def __init__(self, image: KernelImage, entry: Entry, name: str) -> None:
        self._image = image
        self._entry = entry
        self._name = name
        self._shuts_down = False
        self._pending: list[int] = []

    def followed(self, start: int) -> str | None:
        """The reason if one of them jumps, cannot be followed, or if none shuts down."""
        seen = set[int]()
        self._pending.append(start)
        while self._pending:
            address = self._pending.pop()
            if address in seen:
                continue
            seen.add(address)
            one = instruction_at(self._image.read, address)
            if one is None or len(seen) > _MOST:
                return f"{self._name}() cannot be followed at {address:#x}"
            reason = self._step(one)
            if reason is not None:
                return reason
        if not self._shuts_down:
            return f"{self._name}() does not call {self._entry.shut_down}()"
        return None

    def _step(self, one: capstone.CsInsn) -> str | None:
        behind = one.address + one.size
        target = leads_to(one)
        if target is not None:
            return self._branch(one, target, behind)
        if one.group(capstone.CS_GRP_JUMP):
            return f"{self._name}() jumps through a register or a table at {one.address:#x}"
        if not one.group(capstone.CS_GRP_RET) and one.id not in _ENDS:
            self._pending.append(behind)
        return None

    def _branch(self, one: capstone.CsInsn, target: int, behind: int) -> str | None:
        names = self._image.symbols.names_at(target)
        leaves = one.group(capstone.CS_GRP_CALL) or bool(names)
        if _JUMP in names:
            return f"{self._name}() gets to {_JUMP}() without {self._entry.shut_down}()"
        prepares = not {self._entry.shut_down, *self._entry.instead}.isdisjoint(names)
        self._shuts_down |= self._entry.shut_down in names
        is_conditional = one.group(capstone.CS_GRP_JUMP) and one.id != cx.X86_INS_JMP
        if leaves and not self._is_part(names):
            goes_on = not prepares if one.group(capstone.CS_GRP_CALL) else is_conditional
            self._pending += [behind] * goes_on
            return None
        self._pending.append(target)
        if is_conditional or one.group(capstone.CS_GRP_CALL):
            self._pending.append(behind)
        return None

    def _is_part(self, names: tuple[str, ...]) -> bool:
        """Is it what the compiler split off from the function?"""
        return any(name.startswith(f"{self._name}.") for name in names)


_ENDS: Final = frozenset((cx.X86_INS_HLT, cx.X86_INS_INT3))
