# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a kexec, or a crash, get to the jump only after the others were told to stop.

``kernel_kexec()`` calls ``machine_shutdown()`` and then ``machine_kexec()``, or, for a jump back,
takes the others offline first (kernel/kexec_core.c, linux 5.10.262 to 7.3.4); ``__crash_kexec()``
calls ``machine_crash_shutdown()`` in between (the same file; crash_core.c since 6.9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from staleline.kernel.inventory.functioncode import ENDS, PlainInstruction, plain_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from staleline.kernel.image.image import KernelImage

__all__ = ["CRASH_ENTRY", "KEXEC_ENTRY", "Entry", "jumps_unprepared"]

_JUMP: Final = "machine_kexec"
#: What is called in between, and starts no CPU: kernel/kexec_core.c kernel_kexec() since 6.1,
#: kernel/crash_core.c __crash_kexec() since 7.3.
_BETWEEN: Final = ("kmsg_dump", "kmsg_dump_desc", "_printk", "printk", "__const_udelay")
#: What compilers have called for each access.
_CHECKS: Final = ("__asan_", "__kasan_", "__tsan_", "__msan_", "__sanitizer_")
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
    # Followed and not run: what else they do concerns devices, notifiers and the console.
    return _Ways(image, entry, name).followed(start)


class _Ways:
    """All ways through a function, up to where it shuts down."""

    def __init__(self, image: KernelImage, entry: Entry, name: str) -> None:
        self._image = image
        self._entry = entry
        self._name = name
        self._shuts_down = False
        self._pending: list[int] = []
        self._shut_down: list[int] = []
        self._code: dict[int, PlainInstruction] = {}

    def followed(self, start: int) -> str | None:
        """The reason if one of them jumps, cannot be followed, or if none shuts down.

        Or if something else is called before the jump, when the others have been told to stop.
        """
        reason = self._walk([start], self._step)
        if reason is None and not self._shuts_down:
            return f"{self._name}() does not call {self._entry.shut_down}()"
        return reason or self._walk(self._shut_down, self._step_on)

    def _walk(
        self, starts: list[int], step: Callable[[int, PlainInstruction], str | None]
    ) -> str | None:
        seen = set[int]()
        self._pending = list(starts)
        while self._pending:
            address = self._pending.pop()
            if address in seen:
                continue
            seen.add(address)
            if address not in self._code:
                self._code |= plain_code(self._image, address)
            if address not in self._code or len(seen) > _MOST:
                return f"{self._name}() cannot be followed at {address:#x}"
            reason = step(address, self._code[address])
            if reason is not None:
                return reason
        return None

    def _step_on(self, address: int, instruction: PlainInstruction) -> str | None:
        """Behind the shutdown, up to the jump."""
        if instruction.mnemonic == "call" or instruction.target is not None:
            names = (
                ()
                if instruction.target is None
                else self._image.symbols.names_at(instruction.target)
            )
            if _JUMP in names:
                return None
            # A jump to where a symbol begins is a call as well, the last one.
            if instruction.mnemonic == "call" or names:
                known = any(name in _BETWEEN or name.startswith(_CHECKS) for name in names)
                callee = f"{names[0]}()" if names else "another function"
                if not known:
                    shut_down = self._entry.shut_down
                    return f"{self._name}() calls {callee} between {shut_down}() and {_JUMP}()"
            if instruction.is_jump and instruction.target is not None:
                self._pending.append(instruction.target)
        elif instruction.is_jump:
            return f"{self._name}() jumps through a register or a table at {address:#x}"
        if instruction.mnemonic not in ENDS and (
            instruction.is_conditional or not instruction.is_jump
        ):
            self._pending.append(address + instruction.size)
        return None

    def _step(self, address: int, instruction: PlainInstruction) -> str | None:
        behind = address + instruction.size
        if instruction.target is not None:
            return self._branch(instruction, instruction.target, behind)
        if instruction.is_jump:
            return f"{self._name}() jumps through a register or a table at {address:#x}"
        if instruction.mnemonic not in ENDS:
            self._pending.append(behind)
        return None

    def _branch(self, instruction: PlainInstruction, target: int, behind: int) -> str | None:
        names = self._image.symbols.names_at(target)
        if _JUMP in names:
            return f"{self._name}() gets to {_JUMP}() without {self._entry.shut_down}()"
        self._shuts_down |= self._entry.shut_down in names
        if self._entry.shut_down in names and not instruction.is_jump:
            self._shut_down.append(behind)
        prepares = not {self._entry.shut_down, *self._entry.instead}.isdisjoint(names)
        # What the compiler split off from the function is a part of it.
        is_part = not names or any(name.startswith(f"{self._name}.") for name in names)
        if is_part and (instruction.is_jump or names):
            self._pending.append(target)
        if instruction.is_jump:
            self._pending += [behind] * instruction.is_conditional
        else:
            # Behind the shutdown `_step_on` goes on; what may be called instead has taken the
            # others offline.
            self._pending += [behind] * (not prepares)
        return None
