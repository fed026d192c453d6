# SPDX-License-Identifier: GPL-2.0-or-later
"""What a CPU that has halted for good executes when something wakes it all the same.

Sources: arch/x86/kernel/process.c stop_this_cpu(), reboot.c crash_nmi_callback(), linux 5.10.262
to 7.3.4.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import capstone  # type: ignore[import-untyped]
from capstone import x86 as cx

from staleline.hardware import MASK_64
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.layout import APIC, SHADOW
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.inventory.functioncode import (
    function_code,
    instruction_at,
    leads_to,
    operand_address,
    stores_by,
)
from staleline.kernel.sites.addressguards import WHOLE_REGISTERS

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.image.image import KernelImage

__all__ = ["stays_clean"]

_HALT: Final = "native_halt"
_RETURN: Final = "__x86_return_thunk"
#: More instructions than a loop around HLT has.
_MOST: Final = 64
#: What may stand around HLT, beside jumps: it stores nothing but by an operand that says so, and
#: neither traps nor lets an interrupt in. Real kernels have a jump there, and VERW before the HLT.
_QUIET: Final = frozenset(
    (
        *(cx.X86_INS_NOP, cx.X86_INS_ENDBR64, cx.X86_INS_CLI, cx.X86_INS_PAUSE, cx.X86_INS_VERW),
        *(cx.X86_INS_MOV, cx.X86_INS_MOVABS, cx.X86_INS_MOVZX, cx.X86_INS_LEA, cx.X86_INS_XOR),
        *(cx.X86_INS_TEST, cx.X86_INS_CMP, cx.X86_INS_LFENCE, cx.X86_INS_MFENCE),
    )
)
#: MOV to a segment register stores to a descriptor table, one to a control register does more.
_PLAIN_REGISTER: Final = re.compile(
    r"[re]?([abcd]x|[sd]i|[bs]p)|[abcd][lh]|[sd]il|[bs]pl|r\d+[dwb]?"
)
#: These store by what they are, and not by an operand.
_STORING: Final = frozenset(
    (cx.X86_INS_PUSH, cx.X86_INS_PUSHFQ, cx.X86_INS_ENTER, cx.X86_INS_IRETQ)
)

_READ: WeakKeyDictionary[MachineMemory, dict[tuple[int, int], str | None]] = WeakKeyDictionary()


def stays_clean(emulated: EmulatedMachine, halt: int, rests_in: int) -> str | None:
    """Why a CPU that is woken from its HLT may store something; None if it stores nothing.

    Args:
        emulated: The machine; its image is read.
        halt: Address of the HLT.
        rests_in: Address of the function that is to rest, which may call ``native_halt()``.
    """
    read = _READ.setdefault(emulated.memory, {})
    if (halt, rests_in) not in read:
        read[halt, rests_in] = _reason(emulated.image, halt, rests_in)
    return read[halt, rests_in]


def _reason(image: KernelImage, halt: int, rests_in: int) -> str | None:
    # It halts with interrupts disabled, so an NMI, a machine check or the end of an SMI's handler
    # may make it go on (Intel SDM volume 2, HLT). Then it has to halt again, or loop, without a
    # store: its flush is behind it.
    pending, seen, constants = [halt], set[int](), dict[str, int | None]()
    try:
        while pending:
            address = pending.pop()
            if address not in seen:
                seen.add(address)
                pending += _following(image, address, halt, rests_in, constants)
            if len(seen) > _MOST:
                raise DerivationError(f"its code has no end at {image.symbols.place(address)}")
    except DerivationError as error:
        return f"a CPU that is woken from its HLT does not just rest: {error}"
    return None


def _following(
    image: KernelImage,
    address: int,
    halt: int,
    rests_in: int,
    constants: dict[str, int | None],
) -> list[int]:
    """Where it may go on behind an instruction.

    Args:
        image: The kernel.
        address: The instruction's.
        halt: Address of the HLT.
        rests_in: Address of the function that is to rest.
        constants: Registers and what is put into them; None if it is not always that. Added to.

    Raises:
        DerivationError: It does something else than to halt again or to loop.
    """
    instruction, place = instruction_at(image.read, address), image.symbols.place(address)
    if instruction is None:
        raise DerivationError(f"its code cannot be followed at {place}")
    behind = address + instruction.size
    if instruction.id == cx.X86_INS_HLT:
        # At another HLT it is at rest again; only from its own it has been woken.
        return [behind] * (address == halt)
    if instruction.group(capstone.CS_GRP_RET) or _RETURN in _names(image, instruction):
        # Only what was called to halt may return: then it goes on behind the call.
        if not _names_around(image, address, _HALT):
            raise DerivationError(f"it returns at {place}")
        return _behind_halts(image, rests_in)
    action = _action(image, instruction, constants, called=_names_around(image, halt, _HALT))
    if action is not None:
        raise DerivationError(f"it {action} at {place}")
    _note_constants(instruction, constants)
    if instruction.group(capstone.CS_GRP_JUMP):
        target = leads_to(instruction)
        if target is None:
            raise DerivationError(f"its code cannot be followed at {place}")
        return [target] if instruction.id == cx.X86_INS_JMP else [target, behind]
    return [behind]


def _action(
    image: KernelImage,
    instruction: capstone.CsInsn,
    constants: dict[str, int | None],
    *,
    called: bool,
) -> str | None:
    """What an instruction does that a CPU at rest does not; None if there is nothing.

    Args:
        image: The kernel.
        instruction: The instruction.
        constants: Registers and what is put into them.
        called: It was called to halt before: the return address lies on the stack already.
    """
    if instruction.group(capstone.CS_GRP_CALL):
        if not _halts(image, instruction):
            return "calls another function"
        return None if called else "stores to the stack"
    stored = _stored(image, instruction, constants)
    if stored is not None:
        return f"stores to {stored}"
    quiet = instruction.group(capstone.CS_GRP_JUMP) or _is_quiet(instruction, constants)
    return None if quiet else f"executes {instruction.mnemonic}"


def _is_quiet(instruction: capstone.CsInsn, constants: dict[str, int | None]) -> bool:
    """Does it leave alone what none of its operands is, and read nothing that may not be there?"""
    registers = (each.reg for each in instruction.operands if each.type == cx.X86_OP_REG)
    # What is stored to has been looked at before.
    addresses = instruction.id in (cx.X86_INS_NOP, cx.X86_INS_LEA) or any(
        True for _ in stores_by(instruction)
    )
    return (
        instruction.id in _QUIET
        and all(_PLAIN_REGISTER.fullmatch(instruction.reg_name(register)) for register in registers)
        and all(
            addresses
            or each.mem.base == cx.X86_REG_RIP
            # KASAN's shadow is always there: where it shadows nothing, a page of zeros is mapped.
            or _pointed_at(instruction, each, constants) in SHADOW
            for each in instruction.operands
            if each.type == cx.X86_OP_MEM
        )
    )


def _behind_halts(image: KernelImage, function: int) -> list[int]:
    """Where a function goes on when ``native_halt()`` returns.

    Raises:
        DerivationError: It calls none, or its code is not known.
    """
    code = list(function_code(image, function))
    behind = [one.address + one.size for one in code if _halts(image, one)]
    if not behind:
        raise DerivationError(f"{image.symbols.place(function)} does not call {_HALT}()")
    return behind


def _halts(image: KernelImage, instruction: capstone.CsInsn) -> bool:
    """Is it a call of ``native_halt()``, also through ``pv_ops``?"""
    if not instruction.group(capstone.CS_GRP_CALL):
        return False
    if leads_to(instruction) is not None:
        return _HALT in _names(image, instruction)
    operand = instruction.operands[0]
    slot = operand_address(instruction, operand)
    if slot is None or operand.mem.base not in (cx.X86_REG_INVALID, cx.X86_REG_RIP):
        return False
    called = int.from_bytes(image.read(slot, 8), "little")
    return _HALT in image.symbols.names_at(called)


def _names(image: KernelImage, one: capstone.CsInsn) -> tuple[str, ...]:
    target = leads_to(one)
    return () if target is None else image.symbols.names_at(target)


def _names_around(image: KernelImage, address: int, name: str) -> bool:
    enclosing = image.symbols.enclosing(address)
    return enclosing is not None and enclosing[0] == name


def _note_constants(instruction: capstone.CsInsn, constants: dict[str, int | None]) -> None:
    """Which registers an instruction writes to, and what if it is a constant of 64 bits."""
    put = None
    if instruction.id == cx.X86_INS_MOVABS and instruction.operands[1].type == cx.X86_OP_IMM:
        into, source = instruction.operands
        put = instruction.reg_name(into.reg), int(source.imm) & MASK_64
    for register in map(instruction.reg_name, instruction.regs_access()[1]):
        # Who writes a part of a register changes the whole.
        whole = WHOLE_REGISTERS.get(register, register)
        value = put[1] if put is not None and register == put[0] else None
        known = constants.setdefault(whole, value)
        constants[whole] = value if known == value else None


def _pointed_at(
    instruction: capstone.CsInsn, operand: capstone.x86.X86Op, constants: dict[str, int | None]
) -> int:
    """The address of an operand in memory by a register with a constant; 0 if it is not that."""
    base = constants.get(instruction.reg_name(operand.mem.base) or "")
    if base is None or operand.mem.index or operand.mem.segment:
        return 0
    return int(base + operand.mem.disp) & MASK_64


def _stored(
    image: KernelImage, instruction: capstone.CsInsn, constants: dict[str, int | None]
) -> str | None:
    """What an instruction stores to; None if it stores nothing, or to a device's registers."""
    if instruction.id in _STORING:
        return "the stack"
    operand = next(stores_by(instruction), None)
    if operand is None:
        return None
    base = operand.mem.base
    if base in (cx.X86_REG_INVALID, cx.X86_REG_RIP) and not operand.mem.index:
        address = operand_address(instruction, operand)
        return "memory" if address is None else image.symbols.place(address)
    return None if _pointed_at(instruction, operand, constants) in APIC else "memory"
