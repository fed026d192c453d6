# SPDX-License-Identifier: GPL-2.0-or-later
"""What an instruction takes, what it leaves, and what becomes of the bits in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Final

import capstone  # type: ignore[import-untyped]
from capstone import x86 as cx

from staleline.hardware import MASK_64
from staleline.kernel.rerun.registerparts import (
    CARRY,
    FLAGS,
    FLAGS_NAMES,
    Part,
    parts_of_all,
    upper_halves,
)

__all__ = [
    "BitsKept",
    "InstructionForm",
    "accessed",
    "decoded",
    "form_of",
]

#: Where the kernel is linked; numbers of 32 bits that are close to 0 are no addresses there.
_KERNEL_MAP: Final = range(0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_C000_0000)
#: No distance within something is that negative; an address of the kernel, as 32 bits, is.
_LOWEST: Final = -(1 << 29)
#: They say where something is, not what it is; and are the emulator's own.
_PLACES: Final = frozenset({"rsp", "esp", "sp", "rip", "eip"})
_SEGMENTS: Final = frozenset({"cs", "ds", "es", "fs", "gs", "ss"})


_CONDITIONS: Final = frozenset((FLAGS.register, CARRY.register))


class BitsKept(Enum):
    """What the value of an instruction has of the bits that it takes."""

    IN_PLACE = "each where it was"
    MASKED = "some, where they were"
    SHIFTED = "each some bits lower"
    MIXED = "all of them may have a part in each"


@dataclass(frozen=True, slots=True)
class InstructionForm:
    """One instruction, wherever it stands.

    Attributes:
        reads: What its value depends on, beside memory.
        pointers: What only says where in memory it loads from.
        chooses: What says where in memory it stores to.
        writes: What it leaves its value in.
        clears: What it zeroes.
        keeps: What it writes may as well stay as it was, flags aside.
        keeps_flags: Some of the flags but CF may stay as they were.
        keeps_carry: CF may stay as it was.
        bits: What becomes of bits.
        amount: The mask, or by how much it shifts.
        carried: Of a shift, the bit that goes to CF.
        decides: What decides which way it goes, or whether or how often it does anything.
        looks_up: Where it loads from is a place in something, by its number.
        asks: What it asks of the CPU, by the name of the instruction; None if nothing.
        goes: It jumps, calls or returns to where its value says.
        places: Its value is, or has in it, where the kernel lies.
    """

    reads: tuple[Part, ...] = ()
    pointers: tuple[Part, ...] = ()
    chooses: tuple[Part, ...] = ()
    writes: tuple[Part, ...] = ()
    clears: tuple[Part, ...] = ()
    keeps: bool = False
    keeps_flags: bool = False
    keeps_carry: bool = False
    bits: BitsKept = BitsKept.MIXED
    amount: int = 0
    carried: int = 0
    decides: tuple[Part, ...] = ()
    looks_up: bool = False
    asks: str | None = None
    goes: bool = False
    places: bool = False


_IN_PLACE: Final = frozenset(
    (
        *(cx.X86_INS_MOV, cx.X86_INS_MOVZX, cx.X86_INS_MOVABS, cx.X86_INS_PUSH, cx.X86_INS_POP),
        *(cx.X86_INS_AND, cx.X86_INS_OR, cx.X86_INS_XOR, cx.X86_INS_NOT, cx.X86_INS_TEST),
        *(cx.X86_INS_MOVSB, cx.X86_INS_MOVSW, cx.X86_INS_MOVSQ, cx.X86_INS_XCHG),
    )
)
_MASKING: Final = frozenset((cx.X86_INS_AND, cx.X86_INS_TEST))
_STRINGS: Final = frozenset(
    (
        *(cx.X86_INS_STOSB, cx.X86_INS_STOSW, cx.X86_INS_STOSD, cx.X86_INS_STOSQ),
        *(cx.X86_INS_MOVSB, cx.X86_INS_MOVSW, cx.X86_INS_MOVSQ),
        *(cx.X86_INS_LODSB, cx.X86_INS_LODSW, cx.X86_INS_LODSD, cx.X86_INS_LODSQ),
        *(cx.X86_INS_SCASB, cx.X86_INS_SCASW, cx.X86_INS_SCASD, cx.X86_INS_SCASQ),
        *(cx.X86_INS_CMPSB, cx.X86_INS_CMPSW, cx.X86_INS_CMPSQ),
    )
)
_COMPARING: Final = frozenset(
    (
        *(cx.X86_INS_SCASB, cx.X86_INS_SCASW, cx.X86_INS_SCASD, cx.X86_INS_SCASQ),
        *(cx.X86_INS_CMPSB, cx.X86_INS_CMPSW, cx.X86_INS_CMPSQ),
    )
)
_COUNTED: Final = frozenset(
    (cx.X86_INS_LOOP, cx.X86_INS_LOOPE, cx.X86_INS_LOOPNE, cx.X86_INS_JRCXZ, cx.X86_INS_JECXZ)
)
#: All of these write flags (SDM vol. 2), which the decoder (Capstone 5.0.7) does not tell of every
#: form: not of TEST with memory, nor of CMPXCHG and XADD of bytes.
_SET_FLAGS: Final = frozenset(
    (
        *(cx.X86_INS_TEST, cx.X86_INS_CMPXCHG, cx.X86_INS_XADD),
        *(cx.X86_INS_LAR, cx.X86_INS_LSL, cx.X86_INS_VERR, cx.X86_INS_VERW),
    )
)
#: Nor of these that they take CF.
_TAKE_FLAGS: Final = frozenset((cx.X86_INS_RCL, cx.X86_INS_RCR))
#: These take CF alone (SDM vol. 2), and so do conditions that are called like this; these both.
_TAKE_CARRY: Final = frozenset(
    (
        *(cx.X86_INS_ADC, cx.X86_INS_SBB, cx.X86_INS_RCL, cx.X86_INS_RCR),
        *(cx.X86_INS_CMC, cx.X86_INS_SALC),
    )
)
_ON_CARRY: Final = frozenset(("b", "ae"))
_ON_BOTH: Final = frozenset(("be", "a"))
_TEST_A_BIT: Final = frozenset((cx.X86_INS_BT, cx.X86_INS_BTS, cx.X86_INS_BTR, cx.X86_INS_BTC))
#: These write CF alone, but for OF; the others all but CF.
_SET_CARRY: Final = frozenset(
    (
        *_TEST_A_BIT,
        *(cx.X86_INS_CLC, cx.X86_INS_STC, cx.X86_INS_CMC),
    )
)
_ROTATE: Final = frozenset((cx.X86_INS_ROL, cx.X86_INS_ROR, cx.X86_INS_RCL, cx.X86_INS_RCR))
_SHIFT: Final = frozenset(
    (
        *(cx.X86_INS_SHL, cx.X86_INS_SAL, cx.X86_INS_SHR, cx.X86_INS_SAR),
        *(cx.X86_INS_SHLD, cx.X86_INS_SHRD),
    )
)
#: Bits of a count that are looked at, and those of operands of 64 bits (SDM vol. 2).
_COUNT_BITS, _WIDE_COUNT_BITS = 0x1F, 0x3F
#: These leave no flag that a condition asks for as it was, or one of no meaning (SDM vol. 2).
_REPLACE_FLAGS: Final = frozenset(
    (
        *(cx.X86_INS_ADD, cx.X86_INS_ADC, cx.X86_INS_SUB, cx.X86_INS_SBB, cx.X86_INS_NEG),
        *(cx.X86_INS_CMP, cx.X86_INS_TEST, cx.X86_INS_AND, cx.X86_INS_OR, cx.X86_INS_XOR),
        *(cx.X86_INS_INC, cx.X86_INS_DEC, cx.X86_INS_XADD, cx.X86_INS_CMPXCHG),
        *(cx.X86_INS_MUL, cx.X86_INS_IMUL, cx.X86_INS_POPF, cx.X86_INS_POPFQ),
        *(cx.X86_INS_BSF, cx.X86_INS_BSR, cx.X86_INS_TZCNT, cx.X86_INS_LZCNT),
        *(cx.X86_INS_POPCNT, cx.X86_INS_RDRAND, cx.X86_INS_RDSEED),
    )
)
_LEAVE_CARRY: Final = frozenset((cx.X86_INS_INC, cx.X86_INS_DEC))
#: These write flags that no condition asks for: DF, IF and AC.
_LEAVE_CONDITIONS: Final = frozenset(
    (
        *(cx.X86_INS_CLD, cx.X86_INS_STD, cx.X86_INS_CLI, cx.X86_INS_STI),
        *(cx.X86_INS_CLAC, cx.X86_INS_STAC),
    )
)
#: These leave their value in RDX, or its lower part, and RAX as it was.
_EXTEND: Final = frozenset((cx.X86_INS_CWD, cx.X86_INS_CDQ, cx.X86_INS_CQO))
#: All that x87 has, which the decoder does not tell of all instructions.
_FPU: Final = "fpu"
_VECTORS: Final = frozenset(f"xmm{number}" for number in range(16))
_SAVE_STATE: Final = frozenset(
    (
        *(cx.X86_INS_FXSAVE, cx.X86_INS_FXSAVE64, cx.X86_INS_XSAVE, cx.X86_INS_XSAVE64),
        *(cx.X86_INS_XSAVEC, cx.X86_INS_XSAVEC64, cx.X86_INS_XSAVEOPT, cx.X86_INS_XSAVEOPT64),
        *(cx.X86_INS_XSAVES, cx.X86_INS_XSAVES64, cx.X86_INS_FNSAVE),
    )
)
_RESTORE_STATE: Final = frozenset(
    (
        *(cx.X86_INS_FXRSTOR, cx.X86_INS_FXRSTOR64, cx.X86_INS_FRSTOR),
        *(cx.X86_INS_XRSTOR, cx.X86_INS_XRSTOR64, cx.X86_INS_XRSTORS, cx.X86_INS_XRSTORS64),
    )
)
_ACCUMULATORS: Final = {1: "al", 2: "ax", 4: "eax", 8: "rax"}
#: What the CPU answers beside what an instruction reads; the value is a name for reports.
_ASKS: Final = {
    cx.X86_INS_CPUID: "CPUID",
    cx.X86_INS_RDMSR: "RDMSR",
    cx.X86_INS_WRMSR: "WRMSR",
    cx.X86_INS_RDTSC: "RDTSC",
    cx.X86_INS_RDTSCP: "RDTSCP",
    cx.X86_INS_RDRAND: "RDRAND",
    cx.X86_INS_RDSEED: "RDSEED",
    cx.X86_INS_RDPMC: "RDPMC",
    cx.X86_INS_RDPID: "RDPID",
    cx.X86_INS_RDPKRU: "RDPKRU",
    cx.X86_INS_RDFSBASE: "the FS base",
    cx.X86_INS_RDGSBASE: "the GS base",
    cx.X86_INS_XGETBV: "XCR0",
    cx.X86_INS_SGDT: "the descriptor tables (SGDT)",
    cx.X86_INS_SIDT: "the descriptor tables (SIDT)",
    cx.X86_INS_SLDT: "the descriptor tables (SLDT)",
    cx.X86_INS_STR: "the task register",
    cx.X86_INS_SMSW: "CR0",
    cx.X86_INS_LAR: "a segment descriptor (LAR)",
    cx.X86_INS_LSL: "a segment descriptor (LSL)",
    cx.X86_INS_VERR: "a segment descriptor (VERR)",
    cx.X86_INS_VERW: "a segment descriptor (VERW)",
    cx.X86_INS_PUSHF: "EFLAGS",
    cx.X86_INS_PUSHFQ: "EFLAGS",
    cx.X86_INS_IN: "an I/O port",
    cx.X86_INS_STMXCSR: "MXCSR",
    cx.X86_INS_FNSTCW: "the control word of the FPU",
    cx.X86_INS_FNSTSW: "the status word of the FPU",
}


@cache
def form_of(code: bytes) -> InstructionForm | None:
    """The form of an instruction; None if it is none that is known."""
    instruction = next(_decoder().disasm(code, 0, 1), None)
    return None if instruction is None else _form(instruction)


@cache
def decoded(code: bytes) -> tuple[str, bytes]:
    """The name and the bytes of the first instruction; neither if it is none that is known."""
    instruction = next(_decoder().disasm(code, 0, 1), None)
    return ("", b"") if instruction is None else (instruction.mnemonic, bytes(instruction.bytes))


@cache
def _decoder() -> capstone.Cs:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    return decoder


def _form(instruction: capstone.CsInsn) -> InstructionForm:
    number = instruction.id
    read, written = _registers(instruction)
    bits, amount = _bits(instruction)
    if number == cx.X86_INS_RDPKRU:
        written = frozenset({"rax", "rdx"})  # of which the decoder says nothing
    if _clears(instruction):
        read = read & _CONDITIONS if number == cx.X86_INS_SBB else frozenset()
    pointers = frozenset(_pointers(instruction)) - read
    if number in _STRINGS:
        read -= {"rdi", "rsi", "rcx", "edi", "esi", "ecx", *_CONDITIONS}
        written -= {"rdi", "rsi", "rcx", "edi", "esi", "ecx"}
        if _ends_early(instruction):
            written |= {"rdi", "rsi", "rcx"}  # how far it got, what it compares decides
        pointers &= {"rsi"}  # what is stored through RDI is loaded from elsewhere
    moves_or_not = instruction.mnemonic.startswith("cmov")
    return InstructionForm(
        reads=parts_of_all(read),
        pointers=parts_of_all(pointers),
        chooses=parts_of_all(_choosing(instruction)),
        writes=parts_of_all(written),
        clears=upper_halves(written),
        keeps=moves_or_not
        or _ends_early(instruction)
        or number in (cx.X86_INS_CMPXCHG, cx.X86_INS_BSF, cx.X86_INS_BSR),
        keeps_flags=number in _ROTATE or not _replaces_flags(instruction),
        keeps_carry=number not in _SET_CARRY and not _replaces_flags(instruction),
        bits=bits,
        amount=amount,
        carried=_carried(instruction, amount) if bits is BitsKept.SHIFTED else 0,
        decides=parts_of_all(_deciding(instruction, read)),
        looks_up=any(map(_looks_up, instruction.operands)),
        asks=_ASKS.get(number),
        goes=_goes(instruction),
        places=_has_place(instruction),
    )


def _has_place(instruction: capstone.CsInsn) -> bool:
    """LEA by RIP, a number that is an address of the kernel, or a call, which stores one."""
    if instruction.id == cx.X86_INS_LEA:
        return bool(instruction.operands[1].mem.base == cx.X86_REG_RIP)
    numbers = (one.imm for one in instruction.operands if one.type == cx.X86_OP_IMM)
    is_jump = instruction.group(capstone.CS_GRP_JUMP)
    is_address = any(number & MASK_64 in _KERNEL_MAP for number in numbers)
    return bool(instruction.group(capstone.CS_GRP_CALL) or (is_address and not is_jump))


def _ends_early(instruction: capstone.CsInsn) -> bool:
    """Is it repeated as long as what it compares is alike, or is not?"""
    repeated = instruction.prefix[0] in (cx.X86_PREFIX_REP, cx.X86_PREFIX_REPNE)
    return repeated and instruction.id in _COMPARING


def _goes(instruction: capstone.CsInsn) -> bool:
    if instruction.group(capstone.CS_GRP_RET):
        return True
    jumps = instruction.group(capstone.CS_GRP_JUMP) or instruction.group(capstone.CS_GRP_CALL)
    return bool(jumps and instruction.operands and instruction.operands[0].type != cx.X86_OP_IMM)


def _deciding(instruction: capstone.CsInsn, read: frozenset[str]) -> frozenset[str]:
    if instruction.id in _COUNTED:
        return frozenset({"rcx"}) | (read & _CONDITIONS)
    if instruction.id in _STRINGS:
        repeated = instruction.prefix[0] in (cx.X86_PREFIX_REP, cx.X86_PREFIX_REPNE)
        return frozenset({"rcx"}) if repeated else frozenset()
    jumps = instruction.group(capstone.CS_GRP_JUMP)
    if jumps or instruction.mnemonic.startswith(("cmov", "set")):
        return read & _CONDITIONS
    return frozenset()


def _flags_taken(instruction: capstone.CsInsn) -> frozenset[str]:
    """Which flags, of an instruction that takes some."""
    for verb in ("j", "set", "cmov"):
        if (name := instruction.mnemonic).startswith(verb):
            condition = name.removeprefix(verb)
            alone = CARRY.register if condition in _ON_CARRY else FLAGS.register
            return _CONDITIONS if condition in _ON_BOTH else frozenset({alone})
    return frozenset({CARRY.register}) if instruction.id in _TAKE_CARRY else _CONDITIONS


def _flags_left(instruction: capstone.CsInsn) -> frozenset[str]:
    """Which flags, of an instruction that writes some."""
    if instruction.id in _LEAVE_CONDITIONS:
        return frozenset()
    if instruction.id in _SET_CARRY:
        return frozenset({CARRY.register})
    return frozenset({FLAGS.register}) if instruction.id in _LEAVE_CARRY else _CONDITIONS


def _replaces_flags(instruction: capstone.CsInsn) -> bool:
    """Is no flag as it was behind it, of those that it writes, whatever it works on?

    A shift or rotation by a count of 0 leaves all of them, and so does what is not repeated once.
    """
    if instruction.id in _SHIFT | _ROTATE:
        into, count = instruction.operands[0], instruction.operands[-1]
        looked_at = _WIDE_COUNT_BITS if into.size == 8 else _COUNT_BITS
        return bool(count.type == cx.X86_OP_IMM and count.imm & looked_at)
    if instruction.id in _STRINGS:
        return instruction.prefix[0] not in (cx.X86_PREFIX_REP, cx.X86_PREFIX_REPNE)
    return instruction.id in _REPLACE_FLAGS


def _carried(instruction: capstone.CsInsn, amount: int) -> int:
    """The last bit that SHR or SHL by so many bits shifts out (SDM vol. 2)."""
    bit = amount - 1 if amount > 0 else 8 * instruction.operands[0].size + amount
    return 1 << bit if amount and bit >= 0 else 0


def _registers(instruction: capstone.CsInsn) -> tuple[frozenset[str], frozenset[str]]:
    """Read for their value, and written."""
    read, written = accessed(instruction)
    values = {
        instruction.reg_name(operand.reg)
        for operand in instruction.operands
        if operand.type == cx.X86_OP_REG
        and (operand.access & capstone.CS_AC_READ or instruction.id in _SET_FLAGS)
    }
    # LEA computes an address and loads nothing: what it adds up is its value.
    if instruction.id == cx.X86_INS_LEA:
        return frozenset(read - _PLACES - _SEGMENTS), frozenset(written)
    read -= set(_pointers(instruction)) - values
    read -= _SEGMENTS - values
    return frozenset(read - _PLACES), frozenset(written - _PLACES)


def accessed(instruction: capstone.CsInsn) -> tuple[set[str], set[str]]:
    """Registers that are read and written: as the decoder tells, but for what it tells wrongly."""
    number = instruction.id
    read, written = (
        {instruction.reg_name(register) for register in some} for some in instruction.regs_access()
    )
    operands = {
        instruction.reg_name(one.reg) for one in instruction.operands if one.type == cx.X86_OP_REG
    }
    if number in _SET_FLAGS:
        read, written = read | operands, written | {"eflags"}
    if number in _TAKE_FLAGS:
        read.add("eflags")
    if number == cx.X86_INS_TEST:
        written = {"eflags"}  # of EAX it is told that it is written, by TEST of all of it
    if number == cx.X86_INS_XADD:
        written |= operands
    if number == cx.X86_INS_CMPXCHG:
        first, accumulator = instruction.operands[0], _ACCUMULATORS[instruction.operands[0].size]
        read.add(accumulator)
        written.add(accumulator)
        if first.type == cx.X86_OP_REG:
            written.add(instruction.reg_name(first.reg))
    state = _state(instruction)
    read |= state - (_VECTORS if number in _RESTORE_STATE else set())
    written |= state - (_VECTORS if number in _SAVE_STATE else set())
    if number in _EXTEND:
        written -= {"rax", "eax", "ax"}
    if not read.isdisjoint(FLAGS_NAMES):
        read = (read - FLAGS_NAMES) | _flags_taken(instruction)
    if not written.isdisjoint(FLAGS_NAMES):
        written = (written - FLAGS_NAMES) | _flags_left(instruction)
    return read, written


def _state(instruction: capstone.CsInsn) -> frozenset[str]:
    """What it takes or leaves of x87 and SSE, where that is no operand."""
    if instruction.id in _SAVE_STATE | _RESTORE_STATE:
        return _VECTORS | {_FPU}
    return frozenset({_FPU} if instruction.group(cx.X86_GRP_FPU) else ())


def _pointers(instruction: capstone.CsInsn) -> Iterator[str]:
    for operand in instruction.operands:
        if operand.type == cx.X86_OP_MEM:
            for number in (operand.mem.base, operand.mem.index):
                name = instruction.reg_name(number) if number else None
                if name is not None and name not in _PLACES:
                    yield name


def _choosing(instruction: capstone.CsInsn) -> frozenset[str]:
    """Registers by which it stores somewhere."""
    if instruction.id in _STRINGS:
        return frozenset({"rdi"})
    names = frozenset(_pointers(instruction))
    if instruction.id not in _TEST_A_BIT or instruction.operands[0].type != cx.X86_OP_MEM:
        return names
    # Which bit also says which byte (SDM vol. 2, BTS).
    bits = (one for one in instruction.operands if one.type == cx.X86_OP_REG)
    return names | {instruction.reg_name(one.reg) for one in bits}


def _looks_up(operand: capstone.x86.X86Op) -> bool:
    """An index, or an address of the kernel with something added."""
    if operand.type != cx.X86_OP_MEM or not operand.access & capstone.CS_AC_READ:
        return False
    place = operand.mem
    return bool(place.index or (place.base not in (0, cx.X86_REG_RIP) and place.disp < _LOWEST))


def _clears(instruction: capstone.CsInsn) -> bool:
    """XOR, SUB or SBB of a register with itself: what was in it has no part in the result."""
    if instruction.id not in (cx.X86_INS_XOR, cx.X86_INS_SUB, cx.X86_INS_SBB):
        return False
    first, second = instruction.operands
    return bool(first.type == second.type == cx.X86_OP_REG and first.reg == second.reg)


def _bits(instruction: capstone.CsInsn) -> tuple[BitsKept, int]:
    number, operands = instruction.id, instruction.operands
    # AH and its like are bits 8 to 15: whatever they take or give is not where it was.
    registers = (operand.reg for operand in operands if operand.type == cx.X86_OP_REG)
    high = not {"ah", "bh", "ch", "dh"}.isdisjoint(map(instruction.reg_name, registers))
    constant = operands[-1].imm if operands and operands[-1].type == cx.X86_OP_IMM else None
    if constant is not None and operands[0].type != cx.X86_OP_IMM:
        width = 8 * operands[0].size
        if number in _MASKING:
            return BitsKept.MASKED, (constant & ((1 << width) - 1)) << (8 if high else 0)
        if number == cx.X86_INS_BT:
            return BitsKept.MASKED, 1 << constant % width
        if number in (cx.X86_INS_SHR, cx.X86_INS_SHL) and not high:
            return BitsKept.SHIFTED, constant if number == cx.X86_INS_SHR else -constant
    if number in _IN_PLACE and not high:
        return BitsKept.IN_PLACE, 0
    return BitsKept.MIXED, 0
