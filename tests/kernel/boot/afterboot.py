# SPDX-License-Identifier: GPL-2.0-or-later
"""An image with its code as a boot leaves it, on CPUs that need no thunks.

``ftrace_init()`` makes a NOP of every ``call __fentry__`` that its table lists,
``apply_retpolines()`` a plain indirect branch of every thunk's, ``apply_returns()`` a RET of
every jump to the thunk of returns (linux 7.3.4 kernel/trace/ftrace.c, arch/x86/kernel/
alternative.c; 5.10.262 has the last two since its fixes for Retbleed). ``static_call_init()`` lets
each static call lead to its function without the trampoline (kernel/static_call_inline.c); those
that the APIC's driver fills stay as they are, since no driver is chosen here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from staleline.hardware import GENERAL_REGISTERS
from staleline.kernel.image.image import KernelImage
from tests.kernel.places import address_of

__all__ = ["as_after_boot", "patches"]

_NOP5 = b"\x0f\x1f\x44\x00\x00"
_CALL, _JUMP = b"\xe8", b"\xe9"
#: Of struct static_call_site: a tail call, one in init code (include/linux/static_call_types.h).
_KEY_FLAGS = 0b11
_SEGMENT = b"\x2e"  # CS, which fills a thunk's call up to six bytes


def as_after_boot(image: KernelImage) -> tuple[KernelImage, dict[str, int]]:
    """The image, and how many places of each kind were patched."""
    segments = [(segment, bytearray(segment.data)) for segment in image.segments]
    counts = dict.fromkeys(("fentry", "return", "retpoline", "static call"), 0)
    for kind, address, code in patches(image):
        for segment, data in segments:
            start = address - segment.virtual_address
            if 0 <= start < len(data):
                data[start : start + len(code)] = code
                counts[kind] += 1
    others = tuple(replace(segment, data=memoryview(data)) for segment, data in segments)
    return replace(image, segments=others), counts


def patches(image: KernelImage) -> Iterator[tuple[str, int, bytes]]:
    """Kind, address, and what is there afterwards."""
    thunk_of_returns = address_of(image, "__x86_return_thunk")
    fentry = address_of(image, "__fentry__")
    thunks = {
        address_of(image, f"__x86_indirect_thunk_{name}"): number
        for number, name in enumerate(GENERAL_REGISTERS)
        if f"__x86_indirect_thunk_{name}" in image.symbols
    }
    for address in _listed(image, "__start_mcount_loc", "__stop_mcount_loc", relative=False):
        if _branch(image, address, _CALL) == fentry:
            yield "fentry", address, _NOP5
    for address in _listed(image, "__return_sites", "__return_sites_end", relative=True):
        if _branch(image, address, _JUMP) == thunk_of_returns:
            yield "return", address, b"\xc3".ljust(5, b"\xcc")
    for address in _listed(image, "__retpoline_sites", "__retpoline_sites_end", relative=True):
        prefix = int(image.read(address, 1) == _SEGMENT)
        for opcode, kind in ((_CALL, 0xD0), (_JUMP, 0xE0)):
            target = _branch(image, address + prefix, opcode)
            register = None if target is None else thunks.get(target)
            if register is not None:
                rex = b"\x41" if register > 7 else b""
                code = rex + bytes([0xFF, kind | register & 7])
                yield "retpoline", address, code.ljust(5 + prefix, b"\x90")

    yield from _static_calls(image)


def _static_calls(image: KernelImage) -> Iterator[tuple[str, int, bytes]]:
    """Pairs of a call and its key, each relative to its own place; a key begins with a function."""
    table = _listed(image, "__start_static_call_sites", "__stop_static_call_sites", relative=True)
    for address, flagged in zip(table[::2], table[1::2], strict=True):
        function = int.from_bytes(image.read(flagged & ~_KEY_FLAGS, 8), "little")
        opcode = image.read(address, 1)
        if function and opcode in (_CALL, _JUMP):
            distance = (function - address - 5) & 0xFFFF_FFFF
            yield "static call", address, opcode + distance.to_bytes(4, "little")


def _listed(image: KernelImage, start: str, end: str, *, relative: bool) -> list[int]:
    first, last = address_of(image, start), address_of(image, end)
    data = image.read(first, last - first)
    if not relative:  # zeros are of functions that were linked in and overridden
        return [address for address in np.frombuffer(data, "<u8").tolist() if address]
    offsets = np.frombuffer(data, "<i4").tolist()
    return [first + 4 * index + offset for index, offset in enumerate(offsets)]


def _branch(image: KernelImage, address: int, opcode: bytes) -> int | None:
    code = image.read(address, 5)
    if code[:1] != opcode:
        return None
    return address + 5 + int.from_bytes(code[1:], "little", signed=True)
