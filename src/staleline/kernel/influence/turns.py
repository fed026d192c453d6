# SPDX-License-Identifier: GPL-2.0-or-later
"""Where code goes, does or loads one thing or another, and how it looks the other way round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from staleline.hardware import MASK_64
from staleline.kernel.derivation import DerivationError
from staleline.kernel.opcodes import NOP, REX
from staleline.kernel.rerun.changes import Memory
from staleline.kernel.rerun.conditions import JUMPS_NEAR, JUMPS_SHORT, inverted
from staleline.kernel.rerun.detour import Detour
from staleline.kernel.rerun.instructionform import form_of

if TYPE_CHECKING:
    from staleline.kernel.rerun.instructionform import InstructionForm
    from staleline.kernel.rerun.trace import Access, ExecutedInstruction

__all__ = ["Turn", "turned", "turns"]

_PREFIXES: Final = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf2\xf3")
_TWO_BYTES: Final = 0x0F
#: Second bytes of CMOVcc, Jcc and SETcc.
_ON_CONDITION: Final = (range(0x40, 0x50), JUMPS_NEAR, range(0x90, 0xA0))
_COUNTED: Final = range(0xE0, 0xE4)  # LOOPNE, LOOPE, LOOP, JRCXZ
_JUMP: Final = b"\xeb"
_STRINGS: Final = frozenset(b"\xa4\xa5\xaa\xab")  # MOVS and STOS
_REPEATED: Final = frozenset(b"\xf2\xf3")
#: Entries before and behind the one that is loaded from a table.
_NEIGHBOURS: Final = 4
#: Of one instruction, however often it is executed.
_MOST_OTHERS: Final = 2 * _NEIGHBOURS


@dataclass(slots=True)
class Turn:
    """A place at which code turns on something.

    Attributes:
        address: Of the instruction.
        indices: Of the steps that execute it.
        others: How what is there, or in a table, may look instead.
        detours: Of a jump on a condition or a count, each time that it is executed, the other way.
    """

    address: int
    indices: list[int] = field(default_factory=list)
    detours: list[Detour] = field(default_factory=list)
    others: dict[Memory, None] = field(default_factory=dict)


def turns(
    steps: Sequence[ExecutedInstruction],
    linked: Callable[[int], int],
    is_constant: Callable[[int], bool],
    read: Callable[[int, int], bytes],
) -> Sequence[Turn]:
    """Those that a trace passes, each once.

    Args:
        steps: The trace.
        linked: Where the image has what lies at an address.
        is_constant: Nothing ever changes what is at an address.
        read: What is in memory.
    """
    # By its code too, which may have been patched since.
    by_code: dict[tuple[int, bytes], Turn] = {}
    for index, step in enumerate(steps):
        form = form_of(step.code)
        if form is None or not (form.decides or form.looks_up):
            continue
        address = linked(step.address)
        following = steps[index + 1].address if index + 1 < len(steps) else 0
        others = [
            *_other_code(form, address, step, following),
            *_other_entries(form, step, is_constant, read),
        ]
        if others:
            turn = by_code.setdefault((address, step.code), Turn(address))
            if step.conditional or _is_counted(step.code):
                turn.detours.append(
                    Detour(step.address, len(turn.indices), _unused(step, following))
                )
            turn.indices.append(index)
            if len(turn.others) < _MOST_OTHERS:
                turn.others.update(dict.fromkeys(others))
    return list(by_code.values())


def _other_code(
    form: InstructionForm, address: int, step: ExecutedInstruction, following: int
) -> Iterator[Memory]:
    code = turned(step, following) if form.decides else None
    if code is not None:
        yield Memory((address, len(code)), code, "", is_code=True)


def _other_entries(
    form: InstructionForm,
    step: ExecutedInstruction,
    is_constant: Callable[[int], bool],
    read: Callable[[int, int], bytes],
) -> Iterator[Memory]:
    if form.looks_up:
        for access in step.accesses:
            if access.value is not None and is_constant(access.address):
                yield from _neighbours(read, access)


def _neighbours(read: Callable[[int, int], bytes], access: Access) -> Iterator[Memory]:
    """The entries of a table around one that was loaded, in its place."""
    cell = access.address, access.size
    for distance in range(-_NEIGHBOURS, _NEIGHBOURS + 1):
        try:
            entry = read(access.address + distance * access.size, access.size)
        except DerivationError:
            continue
        if int.from_bytes(entry, "little") != access.value:
            # Its place gets what lies beside it, so that the same code looks another entry up.
            yield Memory(cell, entry, "", is_code=True)


def turned(step: ExecutedInstruction, following: int) -> bytes | None:
    """The instruction the other way round; None if it is none of these."""
    code = step.code
    at = next((i for i, byte in enumerate(code) if byte not in _PREFIXES), 0)
    repeated = not _REPEATED.isdisjoint(code[:at])
    # At most one, directly before the opcode (SDM vol. 2, 2.2.1).
    if code[at] in REX and at + 1 < len(code):
        at += 1
    opcode = code[at]
    # A conditional jump, move or SETcc gets the opposite condition.
    if opcode in JUMPS_SHORT:
        return inverted(code, at)
    if opcode == _TWO_BYTES and any(code[at + 1] in some for some in _ON_CONDITION):
        return inverted(code, at + 1)
    if opcode in _COUNTED:
        # These ask RCX, and have no opposite: they are always or never taken.
        taken = following != step.address + len(code)
        # EBH has its displacement where these have theirs, at the end.
        return NOP * len(code) if taken else NOP * (len(code) - 2) + _JUMP + code[-1:]
    if repeated and opcode in _STRINGS:
        # With a count of zero it touches no memory.
        # As often as RCX says: not at all, or once.
        happened = bool(step.accesses)
        return NOP * len(code) if happened else bytes(map(_unrepeated, code))
    return None


def _unused(step: ExecutedInstruction, following: int) -> int:
    """Of the two places to which a conditional jump may lead, the other one."""
    width = 4 if step.conditional_near else 1
    behind = step.address + len(step.code)
    displacement = int.from_bytes(step.code[-width:], "little", signed=True)
    target = (behind + displacement) & MASK_64
    return behind if following == target else target


def _is_counted(code: bytes) -> bool:
    """Does it jump by what RCX holds?"""
    *prefixes, opcode, _ = code if len(code) > 1 else (0, 0)
    return opcode in _COUNTED and _PREFIXES.issuperset(prefixes)


def _unrepeated(byte: int) -> int:
    return NOP[0] if byte in _REPEATED else byte
