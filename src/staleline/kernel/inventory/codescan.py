# SPDX-License-Identifier: GPL-2.0-or-later
"""Find instructions of a kernel's code by their bytes, and keep only real ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]
import numpy as np

from staleline.errors import KernelImageError
from staleline.hardware import MASK_32
from staleline.kernel.emulator.refused import LONGEST_INSTRUCTION, decode_refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from staleline.kernel.image.image import KernelImage

__all__ = ["CodeArea", "Verified", "code_areas", "instruction_starts", "verify"]

#: Sections that the kernel executes. ``.altinstr_replacement`` is executed where it is copied
#: to only, and ``.altinstr_aux`` holds nothing but feature tests.
_CODE_SECTIONS: Final = (".text", ".init.text", ".exit.text", ".noinstr.text", ".entry.text")
#: Since 6.14 kexec's last code is data that is copied (commit 207bdf7f72ae).
_RELOCATE_KERNEL: Final = ("__relocate_kernel_start", "__relocate_kernel_end")
_CALL: Final = 0xE8  # and 0xE9 is the jump
_CALL_ABSOLUTE: Final = b"\xff\x14\x25"
_CALL_RELATIVE: Final = b"\xff\x15"
_MOV_IMMEDIATE: Final = 0xC7
_REX_W: Final = 0x48
_REGISTER: Final = 0xC0
_MOST_CODE: Final = 1 << 28
#: A function longer than this is a gap in the symbols.
_LONGEST_FUNCTION: Final = 0x1_0000
#: What ``XEN_EMULATE_PREFIX`` puts behind a ud2 (asm/emulate_prefix.h, 5.10 to 7.3).
_XEN_PREFIX: Final = b"\x0f\x0bxen"
_MISREAD: Final = frozenset(("ud1", "ud2"))


@dataclass(frozen=True, eq=False)
class CodeArea:
    """Bytes that are executed, and their link address."""

    address: int
    code: bytes

    def find(self, pattern: bytes) -> Iterator[int]:
        """Addresses at which the bytes occur, overlapping or not."""
        at = self.code.find(pattern)
        while at >= 0:
            yield self.address + at
            at = self.code.find(pattern, at + 1)

    def byte_before(self, address: int) -> int | None:
        """The byte in front of an address, or None at the start."""
        at = address - self.address
        return self.code[at - 1] if at > 0 else None

    def branches_to(self, target: int) -> list[int]:
        """Addresses of what reads as a near call or jump to `target`."""
        places, targets = self._branches
        return self._addresses(places[targets == np.int64(target - self.address)])

    def calls_through(self, slot: int) -> Iterator[int]:
        """Addresses of what reads as a call through the pointer at `slot`."""
        yield from self.find(_CALL_ABSOLUTE + (slot & MASK_32).to_bytes(4, "little"))
        places, slots = self._calls_relative
        yield from self._addresses(places[slots == np.int64(slot - self.address)])

    def moves_of(self, address: int) -> list[int]:
        """Addresses of what reads as ``mov $address, register``: a function passed on."""
        places, constants = self._moves
        return self._addresses(places[constants == _signed(address)])

    def _addresses(self, places: NDArray[np.int64]) -> list[int]:
        return [self.address + place for place in places.tolist()]

    @cached_property
    def _branches(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offset of each near call and jump, and the offset it leads to."""
        # At every offset, and for all targets at once: which of these are instructions is asked of
        # those few that lead to a function in question.
        code = np.frombuffer(self.code, np.uint8)
        places = np.flatnonzero((code[:-4] & 0xFE) == _CALL)
        return places, places + 5 + _operands(code, places + 1)

    @cached_property
    def _calls_relative(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offset of each call through a pointer relative to its end, and the pointer's offset."""
        code = np.frombuffer(self.code, np.uint8)
        # By the second byte, since the first one, FF, is what code has most of.
        second = np.flatnonzero(code[1:-4] == _CALL_RELATIVE[1])
        places = second[code[second] == _CALL_RELATIVE[0]]
        return places, places + 6 + _operands(code, places + 2)

    @cached_property
    def _moves(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offset of each ``mov $imm32, register`` of 64 bits, and its constant."""
        code = np.frombuffer(self.code, np.uint8)
        opcodes = np.flatnonzero(code[1:-5] == _MOV_IMMEDIATE) + 1
        rex, modrm = code[opcodes - 1], code[opcodes + 1]
        moves = opcodes[((rex & 0xFE) == _REX_W) & ((modrm & 0xF8) == _REGISTER)]
        return moves - 1, _operands(code, moves + 2)


def _operands(code: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The signed 32-bit values at the given offsets."""
    # Wherever they begin, whether that is a multiple of four or not.
    all_of_them: NDArray[np.int32] = np.ndarray((max(len(code) - 3, 0),), "<i4", code, strides=(1,))
    return all_of_them[places].astype(np.int64)


def _signed(address: int) -> int:
    return address - (1 << 64 if address >> 63 else 0)


@dataclass(frozen=True, slots=True)
class Verified:
    """Candidates sorted by what disassembly says.

    Attributes:
        functions: Address of a real instruction -> the function it is in.
        undecided: Candidates for which it says nothing: no function starts nearby, or the
            bytes before are no instructions.
    """

    functions: Mapping[int, str]
    undecided: tuple[int, ...]


def code_areas(image: KernelImage) -> tuple[CodeArea, ...]:
    """What the kernel executes, by section; without section headers by segment.

    Raises:
        KernelImageError: The sections are not those of a kernel.
    """
    sections = [image.sections[name] for name in _CODE_SECTIONS if name in image.sections]
    ranges = [(section.virtual_address, section.size) for section in sections]
    if not ranges:
        executable = [segment for segment in image.segments if segment.executable]
        ranges = [(segment.virtual_address, len(segment.data)) for segment in executable]
    start, end = (image.symbols.only_address(name) for name in _RELOCATE_KERNEL)
    # Before 6.14 it lies in .text, which is searched already.
    if start and end and start < end and not any(a <= start < a + n for a, n in ranges):
        ranges.append((start, end - start))
    if sum(size for _, size in ranges) > _MOST_CODE:
        raise KernelImageError(
            "code of more than 256 MiB", where=image.path, do="the file is corrupt, copy it again"
        )
    return tuple(CodeArea(address, image.read(address, size)) for address, size in ranges)


def verify(image: KernelImage, area: CodeArea, candidates: Iterable[int]) -> Verified:
    """Disassemble each candidate's function up to it."""
    by_function: dict[tuple[str, int], set[int]] = {}
    undecided: list[int] = []
    for candidate in candidates:
        name, distance = image.symbols.enclosing(candidate) or (None, 0)
        start = candidate - distance
        if name is None or distance > _LONGEST_FUNCTION or start < area.address:
            undecided.append(candidate)
        else:
            by_function.setdefault((name, start), set()).add(candidate)
    functions: dict[int, str] = {}
    for (name, start), wanted in by_function.items():
        starts, end = _instruction_starts(area, start, max(wanted))
        # The bytes also occur inside longer instructions: to be one, it has to be arrived at.
        functions |= dict.fromkeys(wanted & starts, name)
        undecided += [candidate for candidate in wanted if candidate >= end]
    return Verified(functions, tuple(sorted(undecided)))


def instruction_starts(area: CodeArea, start: int, last: int) -> set[int]:
    """Addresses at which instructions start, from `start` to `last`."""
    return _instruction_starts(area, start, last)[0]


def _instruction_starts(area: CodeArea, start: int, last: int) -> tuple[set[int], int]:
    """Where instructions start from `start` to `last`, and where the last decoded one ends."""
    code = area.code[start - area.address : last - area.address + LONGEST_INSTRUCTION]
    starts: set[int] = set()
    at, previous = start, start - 1
    while previous < at <= last:
        previous = at
        for address, size, mnemonic, _ in _DISASSEMBLER.disasm_lite(code[at - start :], at):
            starts.add(address)
            # capstone goes on behind what it took an instruction for, which is not always its end.
            length = size
            if mnemonic in _MISREAD:
                length = _misread_length(code[address - start :]) or size
            at = address + length
            if length != size:
                break
        # Else it ends here, and what lies behind is undecided.
        at += _unread_length(code[at - start :]) if at == previous else 0
    return starts, at


def _misread_length(code: bytes) -> int:
    """Length of a ud1, whose ModRM capstone 5 leaves out, or of a ud2 that Xen reads; else 0."""
    if code.startswith(_XEN_PREFIX):
        return len(_XEN_PREFIX)
    instruction = decode_refused(code)
    return 0 if instruction is None else instruction.length


def _unread_length(code: bytes) -> int:
    """Length of what capstone 5 does not read, or 0: SEAMCALL, RMPADJUST, PVALIDATE, ..."""
    prefixed = code[:1] in (b"\x66", b"\xf2", b"\xf3") and code[1:3] == b"\x0f\x01"
    # 0F 01 with a mandatory prefix and no memory operand.
    return 4 if prefixed and code[3:4] >= b"\xc0" else 0


_DISASSEMBLER: Final = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
