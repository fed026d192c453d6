# SPDX-License-Identifier: GPL-2.0-or-later
"""Decode the few instructions that the emulated CPU refuses to execute.

They are answered in Python (`staleline.kernel.emulator.execution.events`). Whatever this module
does not recognise stays unmodelled, and the run that met it stays unknown.
Opcodes: AMD64 APM volume 3, appendix A.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

__all__ = ["LONGEST_INSTRUCTION", "Operation", "RefusedInstruction", "decode_refused"]

#: Bytes; an x86 instruction is never longer.
LONGEST_INSTRUCTION = 15


class Operation(StrEnum):
    """What a refused instruction asks of the machine."""

    CLTS = "clts"
    HLT = "hlt"
    INVLPG = "invlpg"
    IRET = "iret"
    LGDT = "lgdt"
    LIDT = "lidt"
    LLDT = "lldt"
    LTR = "ltr"
    MONITOR = "monitor"
    MOV_FROM_CR = "mov from cr"
    MOV_FROM_DR = "mov from dr"
    MOV_TO_CR = "mov to cr"
    MOV_TO_DR = "mov to dr"
    MOV_TO_SS = "mov to ss"
    MWAIT = "mwait"
    RDFSBASE = "rdfsbase"
    RDGSBASE = "rdgsbase"
    RDMSR = "rdmsr"
    RDPKRU = "rdpkru"
    RDRAND = "rdrand"
    RDSEED = "rdseed"
    RDTSC = "rdtsc"
    RDTSCP = "rdtscp"
    RMPADJUST = "rmpadjust"
    SEAMCALL = "seamcall"
    STGI = "stgi"
    SWAPGS = "swapgs"
    UD1 = "ud1"
    UD2 = "ud2"
    VMXOFF = "vmxoff"
    WBINVD = "wbinvd"
    WRFSBASE = "wrfsbase"
    WRGSBASE = "wrgsbase"
    WRMSR = "wrmsr"
    WRPKRU = "wrpkru"
    XSETBV = "xsetbv"


@dataclass(frozen=True, slots=True)
class RefusedInstruction:
    """One decoded instruction.

    Attributes:
        operation: What it does.
        length: Bytes, prefixes included.
        special: Number of the control or debug register, where one is named.
        general: Number of the general register (0 = RAX ... 15 = R15), likewise.
        width: Bits of that register that are written, where they may be fewer than 64.
    """

    operation: Operation
    length: int
    special: int = 0
    general: int = 0
    width: int = 64


# Privileged instructions raise #GP in ring 3; ud1 and ud2 raise #UD by definition.
_TWO_BYTE = {
    0x06: Operation.CLTS,
    0x09: Operation.WBINVD,
    0x0B: Operation.UD2,
    0x30: Operation.WRMSR,
    0x31: Operation.RDTSC,
    0x32: Operation.RDMSR,
}
_SPECIAL_MOVES = {
    0x20: Operation.MOV_FROM_CR,
    0x21: Operation.MOV_FROM_DR,
    0x22: Operation.MOV_TO_CR,
    0x23: Operation.MOV_TO_DR,
}
_GROUP_7_REGISTER = {
    0xC4: Operation.VMXOFF,
    0xC8: Operation.MONITOR,
    0xC9: Operation.MWAIT,
    0xD1: Operation.XSETBV,
    0xDC: Operation.STGI,
    0xEE: Operation.RDPKRU,
    0xEF: Operation.WRPKRU,
    0xF8: Operation.SWAPGS,
    0xF9: Operation.RDTSCP,
}
_GROUP_7_MEMORY = {2: Operation.LGDT, 3: Operation.LIDT, 7: Operation.INVLPG}
_GROUP_6 = {2: Operation.LLDT, 3: Operation.LTR}
_SEGMENT_OVERRIDES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67))
# Of an instruction set that Unicorn's CPU model is too old for (`Emulator`).
_GROUP_9 = 0xC7
_GROUP_9_REGISTER = {6: Operation.RDRAND, 7: Operation.RDSEED}
# Enabled by CR4.FSGSBASE, as RDPKRU and WRPKRU are by CR4.PKE: neither bit is ever really set.
_GROUP_15_BASES = (
    Operation.RDFSBASE,
    Operation.RDGSBASE,
    Operation.WRFSBASE,
    Operation.WRGSBASE,
)
_STACK_SEGMENT = 2
_UD1 = 0xB9
# Nothing here has SEAM or SNP, so both raise #UD.
_SEAMCALL = _IRET = 0xCF
_RMPADJUST = b"\xf3\x0f\x01\xfe"
_MANDATORY_66 = 0x66
_REPEAT = 0xF3
_REX_W = 0x48


@lru_cache(maxsize=1024)  # every run meets the same few
def decode_refused(code: bytes) -> RefusedInstruction | None:
    """The refused instruction at the start of `code`, or None if it is not one of ours."""
    if code[:4] == _RMPADJUST:
        return RefusedInstruction(Operation.RMPADJUST, len(_RMPADJUST))
    # An F2 or F3 prefix is never skipped: F3 0F 09 is WBNOINVD, which writes back but does not
    # invalidate.
    if code[:1] == bytes((_REPEAT,)):
        return _decode_base_access(code[1:6].ljust(5, b"\0"))
    at, rex = _skip_prefixes(code)
    body = code[at : at + 8].ljust(8, b"\0")
    if body[:2] == bytes((0x0F, _GROUP_9)):
        return _decode_random(body[2], at, rex, narrow=_MANDATORY_66 in code[:at])
    if _MANDATORY_66 in code[:at] and body[:3] == bytes((0x0F, 0x01, _SEAMCALL)):
        return RefusedInstruction(Operation.SEAMCALL, at + 3)
    if body[0] == 0xF4:
        return RefusedInstruction(Operation.HLT, at + 1)
    # Without REX.W it pops a 32-bit frame, which the kernel's 64-bit code never does.
    if body[0] == _IRET and rex & 0xF8 == _REX_W:
        return RefusedInstruction(Operation.IRET, at + 1)
    # A selector of ring 0 does not fit into SS in ring 3; the other segment registers take it.
    if body[0] == 0x8E and (body[1] >> 3) & 7 == _STACK_SEGMENT:
        return RefusedInstruction(Operation.MOV_TO_SS, at + 1 + _modrm_length(body[1:]))
    if body[0] == 0x0F:
        return _decode_two_byte(body, at, rex)
    return None


def _decode_base_access(body: bytes) -> RefusedInstruction | None:
    """RDGSBASE and its like with a 64-bit operand: F3 REX.W 0F AE, register operand."""
    rex, modrm = body[0], body[3]
    register = (modrm >> 3) & 7
    if rex & 0xF8 != _REX_W or body[1:3] != b"\x0f\xae" or modrm < 0xC0 or register > 3:
        return None
    general = (modrm & 7) | ((rex & 1) << 3)
    return RefusedInstruction(_GROUP_15_BASES[register], 5, general=general)


def _decode_random(modrm: int, at: int, rex: int, *, narrow: bool) -> RefusedInstruction | None:
    operation = _GROUP_9_REGISTER.get((modrm >> 3) & 7)
    if operation is None or modrm < 0xC0:
        return None
    general = (modrm & 7) | ((rex & 1) << 3)
    width = 64 if rex & 8 else 16 if narrow else 32
    return RefusedInstruction(operation, at + 3, general=general, width=width)


def _skip_prefixes(code: bytes) -> tuple[int, int]:
    at = 0
    while at < len(code) and code[at] in _SEGMENT_OVERRIDES:
        at += 1
    if at < len(code) and code[at] & 0xF0 == 0x40:
        return at + 1, code[at]
    return at, 0


def _decode_two_byte(body: bytes, at: int, rex: int) -> RefusedInstruction | None:
    opcode, modrm = body[1], body[2]
    if opcode in _TWO_BYTE:
        return RefusedInstruction(_TWO_BYTE[opcode], at + 2)
    if opcode in _SPECIAL_MOVES:
        special = ((modrm >> 3) & 7) | ((rex & 4) << 1)
        general = (modrm & 7) | ((rex & 1) << 3)
        return RefusedInstruction(_SPECIAL_MOVES[opcode], at + 3, special, general)
    if opcode == 0x01 and modrm in _GROUP_7_REGISTER:
        return RefusedInstruction(_GROUP_7_REGISTER[modrm], at + 3)
    if opcode == _UD1:
        return RefusedInstruction(Operation.UD1, at + 2 + _modrm_length(body[2:]))
    group = {0x00: _GROUP_6, 0x01: _GROUP_7_MEMORY if modrm < 0xC0 else {}}.get(opcode, {})
    operation = group.get((modrm >> 3) & 7)
    if operation is None:
        return None
    return RefusedInstruction(operation, at + 2 + _modrm_length(body[2:]))


def _modrm_length(operand: bytes) -> int:
    """Bytes of ModRM, SIB and displacement (APM volume 3, section 1.4)."""
    mode, base = operand[0] >> 6, operand[0] & 7
    if mode == 3:
        return 1
    has_sib = base == 4
    if mode == 0 and (base == 5 or (has_sib and operand[1] & 7 == 5)):
        return 5 + has_sib
    return 1 + has_sib + {0: 0, 1: 1, 2: 4}[mode]
