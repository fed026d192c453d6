# SPDX-License-Identifier: GPL-2.0-or-later
"""Plant a question into a kernel that its guards do not ask.

A traced function begins with a call of ``__fentry__``, which returns at once. Here it calls a
piece of code instead that asks, and if the answer is yes, does something; it is written over
``panic()``, which none of the runs reaches.
"""

from __future__ import annotations

from collections.abc import Callable

from staleline.kernel.image import KernelImage
from tests.kernel.mutate import patched

__all__ = [
    "Bytes",
    "cpuid_bit",
    "executes_wbinvd",
    "global_bit",
    "global_variable",
    "msr_bit",
    "per_cpu_variable",
    "planted",
    "planted_static_branch",
    "zeroes_global",
    "zeroes_per_cpu_byte",
]

#: Makes code for an address.
Bytes = Callable[[int], bytes]

_CAVE = "panic"
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_NOP5 = b"\x0f\x1f\x44\x00\x00"
_TEST_IMMEDIATE = {"EAX": b"\xa9", "EBX": b"\xf7\xc3", "ECX": b"\xf7\xc1", "EDX": b"\xf7\xc2"}


def planted(image: KernelImage, function: str, asks: Bytes, does: Bytes) -> KernelImage:
    """`asks` leaves ZF clear for yes; then `does` runs. Both keep all registers."""
    cave = image.symbols.address(_CAVE)
    question = asks(cave)
    action = does(cave + len(question) + 2)
    skip = b"\x74" + bytes([len(action)])
    call = _fentry_call(image, function)
    image = patched(image, cave, question + skip + action + b"\xc3")
    return patched(image, call, b"\xe8" + _relative(call + 5, cave))


def planted_static_branch(image: KernelImage, function: str) -> KernelImage:
    """The first static branch of the image jumps from this function's start to a WBINVD."""
    cave, call = image.symbols.address(_CAVE), _fentry_call(image, function)
    entry = image.symbols.address("__start___jump_table")
    image = patched(image, cave, b"\x0f\x09\xe9" + _relative(cave + 7, call + 5))
    image = patched(image, call, _NOP5)
    return patched(image, entry, _relative(entry, call) + _relative(entry + 4, cave))


def global_variable(address: int) -> Bytes:
    """Are its four bytes not zero?"""
    return lambda at: b"\x83\x3d" + _relative(at + 7, address) + b"\0"


def global_bit(address: int, bit: int) -> Bytes:
    """Is a bit of its first byte set?"""
    return lambda at: b"\xf6\x05" + _relative(at + 7, address) + bytes([1 << bit])


def per_cpu_variable(address: int) -> Bytes:
    """The same of a per-CPU variable, by its link address."""
    return lambda at: b"\x65\x83\x3d" + _relative(at + 8, address) + b"\0"


def cpuid_bit(leaf: int, register: str, bit: int) -> Bytes:
    """Is the bit set?"""
    ask = b"\xb8" + leaf.to_bytes(4, "little") + b"\x31\xc9\x0f\xa2"
    test = _TEST_IMMEDIATE[register] + (1 << bit).to_bytes(4, "little")
    return lambda _: b"\x50\x53\x51\x52" + ask + test + b"\x5a\x59\x5b\x58"


def msr_bit(number: int, bit: int) -> Bytes:
    """Is the bit set? One of the lower 32."""
    ask = b"\xb9" + number.to_bytes(4, "little") + b"\x0f\x32"
    test = _TEST_IMMEDIATE["EAX"] + (1 << bit).to_bytes(4, "little")
    return lambda _: b"\x50\x51\x52" + ask + test + b"\x5a\x59\x58"


def executes_wbinvd(_: int) -> bytes:
    """A flush that the kernel does not have."""
    return b"\x0f\x09"


def zeroes_global(address: int) -> Bytes:
    """Eight bytes of it."""
    return lambda at: b"\x48\xc7\x05" + _relative(at + 11, address) + bytes(4)


def zeroes_per_cpu_byte(address: int) -> Bytes:
    """One byte of a per-CPU variable, by its link address."""
    return lambda at: b"\x65\xc6\x05" + _relative(at + 8, address) + b"\0"


def _fentry_call(image: KernelImage, function: str) -> int:
    address = image.symbols.address(function)
    if image.read(address, 4) == _ENDBR64:
        address += 4
    code = image.read(address, 5)
    target = (address + 5 + int.from_bytes(code[1:], "little", signed=True)) % (1 << 64)
    assert code[0] == 0xE8
    assert target == image.symbols.address("__fentry__")
    return address


def _relative(start: int, target: int) -> bytes:
    return ((target - start) & 0xFFFF_FFFF).to_bytes(4, "little")
