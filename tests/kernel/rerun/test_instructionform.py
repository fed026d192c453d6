# SPDX-License-Identifier: GPL-2.0-or-later
"""What a form says of an instruction, against what the emulator does when it executes it.

Whatever is changed that a form does not say it takes makes no difference to what it leaves, and
what it does not say it leaves is as it was.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pytest
import unicorn
from unicorn import x86_const as x86

from staleline.kernel.rerun.instructionform import InstructionForm, decoded, form_of
from staleline.kernel.rerun.registerparts import CARRY, FLAGS

CODE, MEMORY = 0x1_0000, 0x2_0000
#: As far as BTS and its like reach by a register of 16 bits, and to spare.
SIZE: Final = 0x4000
#: RSI points to memory, and is changed by nothing here.
REGISTERS: Final = {
    name: getattr(x86, f"UC_X86_REG_{name.upper()}") for name in ("rax", "rbx", "rcx", "rdx")
}
PLACE: Final = MEMORY + SIZE // 2
STATUS: Final = 0b1000_1101_0101  # OF SF ZF AF PF CF
CF: Final = 1 << 0
#: Each register, or each of a group, with RCX and with memory at RSI.
MODRM: Final = (*range(0xC1, 0x100, 8), *range(0x06, 0x40, 8))
#: Of one byte, and behind 0F: what compilers make of a condition.
ONE_BYTE: Final = (
    *(opcode + low for opcode in range(0, 0x40, 8) for low in range(6)),
    *(0x63, 0x69, 0x6B, *range(0x70, 0x8C), 0x8D, *range(0x90, 0x9A), 0xA8, 0xA9),
    *(*range(0xB0, 0xC2), 0xC6, 0xC7, *range(0xD0, 0xD4), 0xF6, 0xF7, 0xFE),
)
TWO_BYTES: Final = (
    *(*range(0x40, 0x50), *range(0x90, 0xA0), 0xA3, 0xA4, 0xA5, 0xAB, 0xAC, 0xAD, 0xAF),
    *(0xB0, 0xB1, 0xB3, 0xB6, 0xB7, *range(0xBA, 0xC2), *range(0xC8, 0xD0)),
)
UNDEFINED: Final = {(b"\x66", bytes([opcode])) for opcode in range(0xC8, 0xD0)}


@dataclass(frozen=True)
class Left:
    """What an instruction leaves."""

    registers: Mapping[str, int]
    flags: int
    behind: int
    memory: bytes


class Machine:
    """Executes one instruction."""

    def __init__(self) -> None:
        self._engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._engine.mem_map(CODE, SIZE)
        self._engine.mem_map(MEMORY, SIZE)
        self._content = random.Random(0).randbytes(SIZE)

    def run(self, code: bytes, registers: Mapping[str, int], flags: int) -> Left | None:
        """None if it faults."""
        engine = self._engine
        engine.mem_write(CODE, code)
        engine.mem_write(MEMORY, self._content)
        engine.ctl_remove_cache(CODE, CODE + len(code))
        for name, value in registers.items():
            engine.reg_write(REGISTERS[name], value)
        for number in (x86.UC_X86_REG_RSI, x86.UC_X86_REG_RDI, x86.UC_X86_REG_RSP):
            engine.reg_write(number, PLACE)
        engine.reg_write(x86.UC_X86_REG_RBP, 0)
        engine.reg_write(x86.UC_X86_REG_EFLAGS, flags | 2)
        try:
            engine.emu_start(CODE, CODE + len(code), 0, 1)
        except unicorn.UcError:
            return None
        return Left(
            {name: engine.reg_read(number) for name, number in REGISTERS.items()},
            engine.reg_read(x86.UC_X86_REG_EFLAGS) & STATUS,
            engine.reg_read(x86.UC_X86_REG_RIP) - CODE,
            bytes(engine.mem_read(PLACE - 32, 64)),
        )


def codes(prefix: bytes) -> Iterator[bytes]:
    """Every form of the opcodes, each once."""
    seen = set()
    for opcode in (*(bytes([one]) for one in ONE_BYTE), *(b"\x0f" + bytes([o]) for o in TWO_BYTES)):
        for modrm in MODRM:
            _, code = decoded((prefix + opcode + bytes([modrm, 3, 2, 1, 0, 5, 6, 7])).ljust(15))
            # What BSWAP leaves of 16 bits is undefined (SDM vol. 2).
            if code and code not in seen and (prefix, opcode[-1:]) not in UNDEFINED:
                seen.add(code)
                yield code


def bits_of(parts: InstructionForm, register: str, *, taken: bool) -> int:
    """The bits of a register that a form takes, or else leaves."""
    takes = (*parts.reads, *parts.pointers, *parts.decides)
    leaves = (*parts.writes, *parts.clears)
    bits = 0
    for part in takes if taken else leaves:
        bits |= part.mask << part.first if part.register == register else 0
    return bits


def wrongs(machine: Machine, code: bytes, rng: random.Random) -> Iterator[str]:
    form = form_of(code)
    assert form is not None
    before, flags = {name: rng.getrandbits(64) for name in REGISTERS}, rng.getrandbits(12) & STATUS
    left = machine.run(code, before, flags)
    if left is None or not left.behind:
        return
    leaves = {name: bits_of(form, name, taken=False) for name in REGISTERS}
    yield from (
        f"leaves {name}"
        for name in REGISTERS
        if (left.registers[name] ^ before[name]) & ~leaves[name]
    )
    for part, bits in ((FLAGS, STATUS & ~CF), (CARRY, CF)):
        if part not in form.writes and (left.flags ^ flags) & bits:
            yield f"leaves {part.register}"
        if part not in (*form.reads, *form.decides):
            other = machine.run(code, before, flags ^ bits)
            if other is None or (other.registers, other.behind) != (left.registers, left.behind):
                yield f"takes {part.register}"
    for name in REGISTERS:
        turned = rng.getrandbits(64) & ~bits_of(form, name, taken=True)
        other = machine.run(code, {**before, name: before[name] ^ turned}, flags)
        if other is None or differs(left, other, name, leaves[name] if not form.keeps else 0):
            yield f"takes {name}"


def differs(one: Left, other: Left, turned: str, leaves: int) -> bool:
    """Beside that it holds what was turned over where nothing is left."""
    return (
        (one.flags, one.behind, one.memory) != (other.flags, other.behind, other.memory)
        or bool((one.registers[turned] ^ other.registers[turned]) & leaves)
        or any(one.registers[name] != other.registers[name] for name in REGISTERS if name != turned)
    )


@pytest.mark.parametrize("prefix", [b"", b"\x48", b"\x66"], ids=["32", "64", "16"])
def test_a_form_says_what_an_instruction_takes_and_leaves(prefix: bytes) -> None:
    machine, rng = Machine(), random.Random(0)
    found = {
        f"{decoded(code)[0]} ({code.hex()}) {wrong}"
        for code in codes(prefix)
        for wrong in wrongs(machine, code, rng)
    }
    assert sorted(found) == []
