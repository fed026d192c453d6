# SPDX-License-Identifier: GPL-2.0-or-later
"""What code accesses behind a WBINVD: every store, and reads where they are wanted."""

from __future__ import annotations

from typing import Final, NamedTuple

from staleline.kernel.opcodes import REX

__all__ = ["MOST_NOTES", "NotedAccess", "NotedStores", "flushes_a_line"]

#: What a run may leave of them; a kernel stores once or twice after its flush.
MOST_NOTES: Final = 4096
_OPCODE: Final = b"\x0f\xae"
_OPERAND_SIZE: Final = 0x66
#: Segments, operand and address size, in any order and number (SDM vol. 2, 2.1.1). Before
#: CLFLUSHOPT is patched in, kernels have ``.byte 0x3e; clflush`` (linux 6.12.117
#: arch/x86/include/asm/special_insns.h:185 clflushopt()). F2 and F3 make another instruction of it.
_PREFIXES: Final = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, _OPERAND_SIZE, 0x67))
#: CLFLUSH and CLFLUSHOPT, and with the prefix CLWB (SDM vol. 2, opcode map, group 15).
_FLUSHES, _WRITES_BACK = 7, 6
_IN_MEMORY: Final = 0xC0


class NotedAccess(NamedTuple):
    """Adjacent bytes that one instruction accessed, in the order of the run.

    Attributes:
        code: Address of the instruction.
        address: Of the first byte.
        size: In bytes.
        is_write: A store.
    """

    code: int
    address: int
    size: int
    is_write: bool


class NotedStores:
    """The stores of one CPU since its last WBINVD.

    Attributes:
        accesses: In order; what one instruction stores by and by is one where it is adjacent.
        flushed_lines: A single line was flushed behind a store, which is not modelled.
        too_many: Some could not be kept.
    """

    def __init__(self) -> None:
        self.accesses: list[NotedAccess] = []
        self.flushed_lines = self.too_many = False

    def clear(self) -> None:
        """Nothing was stored since the last WBINVD."""
        self.accesses.clear()
        self.flushed_lines = self.too_many = False

    def note(self, code: int, address: int, size: int, *, is_write: bool) -> None:
        """One access of the instruction at `code`."""
        # A repeated instruction that is stopped in between, because its time is over, is told again
        # of what it did last.
        if self.accesses and self._is_told(self.accesses[-1], code, address, size, is_write):
            return
        if self.accesses and self._goes_on(self.accesses[-1], code, address, is_write=is_write):
            last = self.accesses[-1]
            self.accesses[-1] = last._replace(size=last.size + size)
        elif len(self.accesses) < MOST_NOTES:
            self.accesses.append(NotedAccess(code, address, size, is_write))
        else:
            self.too_many = True

    @staticmethod
    def _is_told(last: NotedAccess, code: int, address: int, size: int, is_write: bool) -> bool:
        within = last.address <= address and address + size <= last.address + last.size
        return within and (last.code, last.is_write) == (code, is_write)

    @staticmethod
    def _goes_on(last: NotedAccess, code: int, address: int, *, is_write: bool) -> bool:
        return (last.code, last.is_write, last.address + last.size) == (code, is_write, address)

    def flush_line(self) -> None:
        """The CPU flushes a single line."""
        # Without a store before it there is nothing that it could have written back.
        self.flushed_lines = bool(self.accesses)


def flushes_a_line(instruction: bytes) -> bool:
    """Is it CLFLUSH, CLFLUSHOPT or CLWB?"""
    behind = next((i for i, byte in enumerate(instruction) if byte not in _PREFIXES), 0)
    prefixed, code = _OPERAND_SIZE in instruction[:behind], instruction[behind:]
    if code[:1] and code[0] in REX:
        code = code[1:]
    if code[:2] != _OPCODE or len(code) < 3 or code[2] >= _IN_MEMORY:
        return False
    number = code[2] >> 3 & 7
    return number == _FLUSHES or (prefixed and number == _WRITES_BACK)
