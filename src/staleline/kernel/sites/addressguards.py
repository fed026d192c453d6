# SPDX-License-Identifier: GPL-2.0-or-later
"""Conditions that ask where the kernel was put, by the address of something in it.

KASLR chooses that at each boot, and code that takes an address carries it in its instructions: no
variable says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]

from staleline.kernel.addresses import KERNEL_IMAGE
from staleline.kernel.derivation import DerivationError

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory

__all__ = ["WHOLE_REGISTERS", "Block", "Followed", "asks_for_address"]

#: A run of instructions without a jump inside: address and size.
Block = tuple[int, int]
#: One, and another that came behind it.
Followed = tuple[Block, Block]
#: Words on the stack that are followed.
_DEEPEST: Final = 16

_NUMBER: Final = re.compile(r"^-?(0x[0-9a-f]+|\d+)$")
_CONDITIONAL: Final = re.compile(r"^(j(?!mp)|set|cmov|sbb|adc|loop)")
#: What sets flags by a value and keeps it, or makes a number of it.
_LOOKS: Final = frozenset(("test", "cmp", "bt"))
_COMPUTES: Final = frozenset(
    ("and", "or", "xor", "sub", "add", "shr", "shl", "sar", "ror", "rol", "imul", "inc", "dec")
)
#: Of an address they make a number whatever they shift by.
_SHIFTS: Final = frozenset(("shr", "shl", "sar", "ror", "rol"))
_MASKS: Final = frozenset(("and", "or", "xor", "test"))
_KEEPS_FLAGS: Final = frozenset(
    ("mov", "movabs", "movzx", "movsxd", "lea", "nop", "push", "pop", "jmp")
)
_COPIES: Final = frozenset(("mov", "movabs", "lea", "movzx", "movsxd"))
_STACK: Final = frozenset(("push", "pop"))
#: Instructions whose effect is told; another makes a number of what it is given.
_KNOWN: Final = (
    _LOOKS | (_COMPUTES - {"imul"}) | _COPIES | _KEEPS_FLAGS | {"call", "jmp", "endbr64", "ret"}
)
#: Of the sixteen registers, the 64-bit one of each part; and of vectors, which hold numbers.
WHOLE_REGISTERS: Final = (
    {
        part: f"r{name}"
        for name in ("ax", "bx", "cx", "dx", "si", "di", "bp")
        for part in (f"r{name}", f"e{name}", name, f"{name[0]}l", f"{name[0]}h", f"{name}l")
    }
    | {
        f"r{number}{suffix}": f"r{number}"
        for number in range(8, 16)
        for suffix in ("", "d", "w", "b")
    }
    | {
        f"{vector}mm{number}": f"xmm{number}"
        for vector in ("", "x", "y", "z")
        for number in range(32)
    }
)


def asks_for_address(memory: MachineMemory, followed: Iterable[Followed]) -> int | None:
    """Where code that was run does so, by address, the lowest; None if it does not.

    Args:
        memory: What holds it.
        followed: Of each run of instructions without a jump that followed another, address and
            size of both.
    """
    behind: dict[Block, set[Block]] = {}
    for before, block in followed:
        behind.setdefault(before, set()).add(block)
        behind.setdefault(block, set())
    questions = set[int]()
    at_start = {block: _Known() for block in behind}
    left = sorted(behind, reverse=True)
    while left:
        block = left.pop()
        known = at_start[block].copied()
        question = _question(memory, block, known)
        if question is not None:
            questions.add(question)
        # Registers and the stack are followed from one run of instructions to the next, but not
        # into and out of functions.
        left.extend(after for after in behind[block] if at_start[after].join(known))
    return min(questions, default=None)


def _question(memory: MachineMemory, block: Block, known: _Known) -> int | None:
    """Within one run of instructions, behind which is known what is left in `known`."""
    try:
        code = memory.read(*block)
    except DerivationError:
        return None
    question = None
    for at, _, mnemonic, operands in _DISASSEMBLER.disasm_lite(code, block[0]):
        # Of a prefix in front, such as LOCK or REP, capstone makes a word of its own.
        name = mnemonic.split()[-1]
        if known.asked is not None and _CONDITIONAL.match(name):
            question = question or known.asked
        parts = [part.strip() for part in operands.split(",")]
        if name in _STACK:
            known.stack(name, parts[0])
        elif name == "ret":
            known.forget()
        else:
            into = WHOLE_REGISTERS.get(parts[0], "")
            known.follow(at, name, into, parts[-1] if len(parts) > 1 else "")
            if name not in _KNOWN:
                known.make(at, [WHOLE_REGISTERS.get(part, "") for part in parts])
    return question


@dataclass(slots=True)
class _Known:
    """What registers hold, and who has set the flags by it.

    Attributes:
        addresses: Registers that hold an address of the image.
        numbers: Those that hold what was computed of one.
        asked: Address of an instruction that has set the flags by that; None if another has.
        pushed: Of each word that lies on the stack: is it an address, and such a number?
    """

    addresses: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    asked: int | None = None
    pushed: list[tuple[bool, bool]] = field(default_factory=list)

    def copied(self) -> _Known:
        """The same, to go on from."""
        return _Known(set(self.addresses), set(self.numbers), self.asked, list(self.pushed))

    def join(self, other: _Known) -> bool:
        """Where two ways meet, either may have been taken; is that anything new?"""
        before = self.copied()
        self.addresses |= other.addresses
        self.numbers |= other.numbers
        self.asked = other.asked if self.asked is None else self.asked
        # Of the words that both have, from the last one on.
        if len(other.pushed) > len(self.pushed):
            self.pushed = other.pushed[: len(other.pushed) - len(self.pushed)] + self.pushed
        for at in range(1, len(other.pushed) + 1):
            (is_address, is_number), (address, number) = self.pushed[-at], other.pushed[-at]
            self.pushed[-at] = is_address or address, is_number or number
        del self.pushed[:-_DEEPEST]
        return self != before

    def forget(self) -> None:
        """Where a function returns to, other registers hold what another has put there."""
        self.addresses.clear()
        self.numbers.clear()
        self.pushed.clear()
        self.asked = None

    def stack(self, name: str, operand: str) -> None:
        """Something is put on the stack, or taken from it."""
        register = WHOLE_REGISTERS.get(operand, "")
        if name == "push":
            is_address = register in self.addresses or _is_address(name, operand)
            self.pushed.append((is_address, register in self.numbers))
        elif register:
            # What was put there before this run of instructions is not known.
            is_address, is_number = self.pushed.pop() if self.pushed else (False, False)
            self._set(register, is_address=is_address, is_number=is_number)

    def make(self, at: int, registers: list[str]) -> None:
        """Another instruction makes a number of what it is given: POPCNT, CRC32, BSWAP."""
        if not (self.addresses | self.numbers).isdisjoint(registers):
            self.asked = at
            if registers[0]:
                self.numbers.add(registers[0])

    def follow(self, at: int, name: str, into: str, source: str) -> None:
        """Go on behind an instruction, of which the first and the last operand are given."""
        # An address is for pointing, or is compared with another; where code looks at its bits, or
        # compares it with a number, what it does then depends on the boot.
        if name in _LOOKS:
            self.asked = at if self._asks(name, into, source) else None
        elif name in _COMPUTES:
            self._compute(at, name, into, source)
        elif name == "call":
            # What it is given may be an address as a pointer is, and where it returns to is one.
            self.forget()
            self.pushed.append((True, False))
        elif name not in _KEEPS_FLAGS:
            self.asked = None
        if name in _COPIES and into:
            copied = WHOLE_REGISTERS.get(source, "")
            is_address = _is_address(name, source) or copied in self.addresses
            self._set(into, is_address=is_address, is_number=copied in self.numbers)

    def _asks(self, name: str, whole: str, source: str) -> bool:
        other = WHOLE_REGISTERS.get(source, "")
        if whole in self.numbers or other in self.numbers:
            return True
        # Tested by itself it is not 0 wherever it is, and another address moves with it.
        is_number = _is_number(source) or name == "bt"
        return (whole in self.addresses and is_number) or self._masks(name, whole, other)

    def _masks(self, name: str, into: str, other: str) -> bool:
        """Bits of an address are taken by a mask that lies in a register or in memory."""
        return name in _MASKS and into != other and not self.addresses.isdisjoint((into, other))

    def _compute(self, at: int, name: str, into: str, source: str) -> None:
        other = WHOLE_REGISTERS.get(source, "")
        is_number = not self.numbers.isdisjoint((into, other))
        # From where it is linked there is a distance, which KASLR has chosen.
        by_number = _is_number(source) or (name == "sub" and _NUMBER.match(source) is not None)
        asks = into in self.addresses and (by_number or name in _SHIFTS)
        derived = is_number or asks or self._masks(name, into, other)
        self.asked = at if derived else None
        # What is added to an address makes another of it.
        if into and derived and (name != "add" or is_number):
            self.numbers.add(into)

    def _set(self, into: str, *, is_address: bool = False, is_number: bool = False) -> None:
        for registers, belongs in ((self.addresses, is_address), (self.numbers, is_number)):
            (registers.add if belongs else registers.discard)(into)


def _is_number(text: str) -> bool:
    return _NUMBER.match(text) is not None and int(text, 0) % (1 << 64) not in KERNEL_IMAGE


def _is_address(name: str, source: str) -> bool:
    if name == "lea":
        return source.startswith("[rip")
    return _NUMBER.match(source) is not None and int(source, 0) % (1 << 64) in KERNEL_IMAGE


_DISASSEMBLER: Final = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
