# SPDX-License-Identifier: GPL-2.0-or-later
"""Change single instructions of a kernel image, found by disassembly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import capstone  # type: ignore[import-untyped]

from staleline.kernel.image.image import KernelImage

__all__ = ["Guard", "find_guard", "instructions", "patched"]

_WBINVD = b"\x0f\x09"
_JUMP_SHORT = 0xEB
_JUMP_IF_SHORT = 0x70
_NOP = b"\x90"


@dataclass(frozen=True)
class Instruction:
    address: int
    code: bytes
    mnemonic: str
    operands: str


@dataclass(frozen=True)
class Guard:
    """A WBINVD and the conditional jump around it, right before it.

    Each property is a patch: an address and the bytes to put there.
    """

    jump: Instruction
    flush: Instruction

    @property
    def never(self) -> tuple[int, bytes]:
        """Every path that reaches the jump goes around the WBINVD."""
        return self.jump.address, bytes([_JUMP_SHORT]) + self.jump.code[1:]

    @property
    def always(self) -> tuple[int, bytes]:
        """Every path that reaches the jump executes the WBINVD."""
        return self.jump.address, _NOP * len(self.jump.code)

    @property
    def inverted(self) -> tuple[int, bytes]:
        """The opposite condition."""
        return self.jump.address, bytes([self.jump.code[0] ^ 1]) + self.jump.code[1:]

    @property
    def no_flush(self) -> tuple[int, bytes]:
        """The WBINVD itself is gone."""
        return self.flush.address, _NOP * len(self.flush.code)


def instructions(image: KernelImage, symbol: str) -> Iterator[Instruction]:
    """The instructions of a function, padding included."""
    address, size = image.symbols.address(symbol), image.symbols.size_of(symbol)
    assert address is not None
    assert size is not None
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for found in disassembler.disasm(image.read(address, size), address):
        yield Instruction(found.address, bytes(found.bytes), found.mnemonic, found.op_str)


def find_guard(image: KernelImage, symbol: str) -> Guard:
    """The one WBINVD of a function, and its guard."""
    code = list(instructions(image, symbol))
    (index,) = (i for i, instruction in enumerate(code) if instruction.code == _WBINVD)
    jump, flush = code[index - 1], code[index]
    assert jump.code[0] & 0xF0 == _JUMP_IF_SHORT, f"{symbol}: {jump} guards no WBINVD"
    assert int(jump.operands, 16) != flush.address
    return Guard(jump, flush)


def patched(image: KernelImage, address: int, code: bytes) -> KernelImage:
    """A copy of the image with other bytes at a link address."""
    segments = list(image.segments)
    for index, segment in enumerate(segments):
        start = address - segment.virtual_address
        if 0 <= start < len(segment.data):
            data = bytearray(segment.data)
            data[start : start + len(code)] = code
            segments[index] = replace(segment, data=memoryview(data))
    return replace(image, segments=tuple(segments))
