# SPDX-License-Identifier: GPL-2.0-or-later
"""Plant a question into a kernel that its guards do not ask.

A traced function begins with a call of ``__fentry__``, which returns at once. Here it calls a
piece of code instead that asks, and if the answer is yes, does something; it is written over
``ksys_unshare()``, which no run reaches, whichever way it turns: ``panic()`` is where many lead.
"""

from __future__ import annotations

from collections.abc import Callable

from staleline.kernel.image.image import KernelImage
from tests.kernel.mutate import instructions, patched
from tests.kernel.places import address_of

__all__ = [
    "CAVE",
    "Bytes",
    "counter_bit",
    "cpuid_bit",
    "executes_wbinvd",
    "fills_global",
    "flushing_at_entry",
    "global_bit",
    "global_variable",
    "msr_bit",
    "on_condition",
    "per_cpu_bit",
    "per_cpu_variable",
    "planted",
    "planted_before_halt",
    "planted_before_report",
    "planted_call",
    "planted_static_branch",
    "pushes",
    "random_bit",
    "reads_byte",
    "relative",
    "returns_at_once",
    "stores_control_page",
    "storing_nothing",
    "time_bit",
    "without_last_mask_store",
    "zeroes_global",
    "zeroes_per_cpu_byte",
]

#: Makes code for an address.
Bytes = Callable[[int], bytes]

CAVE = "ksys_unshare"
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_NOP5 = b"\x0f\x1f\x44\x00\x00"
_TEST_IMMEDIATE = {"EAX": b"\xa9", "EBX": b"\xf7\xc3", "ECX": b"\xf7\xc1", "EDX": b"\xf7\xc2"}


def planted(image: KernelImage, function: str, asks: Bytes, does: Bytes) -> KernelImage:
    """`asks` leaves ZF clear for yes; then `does` runs. Both keep all registers."""
    return planted_call(image, function, on_condition(asks, does))


def planted_call(image: KernelImage, function: str, does: Bytes) -> KernelImage:
    """A function begins with a call of this code."""
    cave, call = address_of(image, CAVE), _fentry_call(image, function)
    image = patched(image, cave, does(cave) + b"\xc3")
    return patched(image, call, b"\xe8" + relative(call + 5, cave))


def planted_static_branch(image: KernelImage, function: str) -> KernelImage:
    """The first static branch of the image jumps from this function's start to a WBINVD."""
    cave, call = address_of(image, CAVE), _fentry_call(image, function)
    entry = address_of(image, "__start___jump_table")
    image = patched(image, cave, b"\x0f\x09\xe9" + relative(cave + 7, call + 5))
    image = patched(image, call, _NOP5)
    return patched(image, entry, relative(entry, call) + relative(entry + 4, cave))


def planted_before_halt(image: KernelImage, does: Bytes) -> KernelImage:
    """The last thing that ``stop_this_cpu()`` does, behind its report, before it halts.

    There is a jump over VERW before the HLT (``mds_idle_clear_cpu_buffers()``).
    """
    code = list(instructions(image, "stop_this_cpu"))
    halt = next(at for at, one in enumerate(code) if one.mnemonic == "hlt")
    jump, verw = code[halt - 2], code[halt - 1]
    assert (jump.mnemonic, verw.mnemonic) == ("jmp", "verw")
    return _detour(image, jump.address, len(jump.code + verw.code), does, b"")


def planted_before_report(image: KernelImage, does: Bytes) -> KernelImage:
    """Between the flush of ``stop_this_cpu()`` and its store to ``cpus_stop_mask``."""
    mask = address_of(image, "cpus_stop_mask")
    report = next(
        one
        for one in instructions(image, "stop_this_cpu")
        if one.mnemonic == "lock btr" and _operand(one.address, one.code) == mask
    )

    def moved(at: int) -> bytes:
        return report.code[:-4] + relative(at + len(report.code), mask)

    return _detour(image, report.address, len(report.code), does, moved)


def _detour(
    image: KernelImage, address: int, size: int, does: Bytes, instead: bytes | Bytes
) -> KernelImage:
    """Do this on the way, then what was there, and go on behind it."""
    cave = address_of(image, CAVE)
    action = does(cave)
    kept = instead if isinstance(instead, bytes) else instead(cave + len(action))
    back = cave + len(action) + len(kept)
    image = patched(image, cave, action + kept + b"\xe9" + relative(back + 5, address + size))
    return patched(image, address, b"\xe9" + relative(address + 5, cave) + b"\x90" * (size - 5))


def flushing_at_entry(image: KernelImage, function: str) -> KernelImage:
    """A function begins with WBINVD, where it calls ``__fentry__``."""
    return patched(image, _fentry_call(image, function), b"\x0f\x09\x0f\x1f\x00")


def without_last_mask_store(image: KernelImage) -> KernelImage:
    """``native_stop_other_cpus()`` does not clear the mask when all have reported.

    It ends with a jump to ``memset()``, which returns instead.
    """
    mask = address_of(image, "cpus_stop_mask") & 0xFFFF_FFFF
    code = list(instructions(image, "native_stop_other_cpus"))
    loads = b"\x48\xc7\xc7" + mask.to_bytes(4, "little")
    (jump,) = (
        code[at + 2]
        for at, one in enumerate(code[:-2])
        if one.code == loads and (code[at + 1].mnemonic, code[at + 2].mnemonic) == ("pop", "jmp")
    )
    return patched(image, jump.address, b"\xc3")


def _operand(address: int, code: bytes) -> int:
    displacement = int.from_bytes(code[-4:], "little", signed=True)
    return (address + len(code) + displacement) % (1 << 64)


def pushes(_: int) -> bytes:
    """Something on the stack, and away again."""
    return b"\x50\x58"


def fills_global(address: int, size: int) -> Bytes:
    """``memset()`` of it by REP STOSB; RAX, RCX and RDI are not kept."""
    fill = b"\xfc\x31\xc0\xb9" + size.to_bytes(4, "little") + b"\xf3\xaa"
    return lambda at: b"\x48\x8d\x3d" + relative(at + 7, address) + fill


def stores_control_page(address: int) -> Bytes:
    """Eight bytes at an address of the direct map, through RAX."""
    return lambda _: b"\x48\xb8" + address.to_bytes(8, "little") + b"\x48\x89\x00"


def reads_byte(address: int) -> Bytes:
    """At any address, through RAX."""
    return lambda _: b"\x48\xb8" + address.to_bytes(8, "little") + b"\x8a\x00"


def global_variable(address: int) -> Bytes:
    """Are its four bytes not zero?"""
    return lambda at: b"\x83\x3d" + relative(at + 7, address) + b"\0"


def global_bit(address: int, bit: int) -> Bytes:
    """Is a bit of its first byte set?"""
    return lambda at: b"\xf6\x05" + relative(at + 7, address) + bytes([1 << bit])


def per_cpu_variable(address: int) -> Bytes:
    """The same of a per-CPU variable, by its link address."""
    return lambda at: b"\x65\x83\x3d" + relative(at + 8, address) + b"\0"


def per_cpu_bit(address: int, bit: int) -> Bytes:
    """Is a bit of the first byte of a per-CPU variable set, by its link address?"""
    return lambda at: b"\x65\xf6\x05" + relative(at + 8, address) + bytes([1 << bit])


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


def random_bit(bit: int, *, seed: bool = False) -> Bytes:
    """Is the bit of a random number set? By RDRAND, or RDSEED."""
    ask = b"\x48\x0f\xc7" + (b"\xf8" if seed else b"\xf0")
    return lambda _: b"\x50" + ask + _tests_eax(bit) + b"\x58"


def time_bit(bit: int) -> Bytes:
    """Is the bit of the time stamp set? One of the lower 32."""
    return lambda _: b"\x50\x52\x0f\x31" + _tests_eax(bit) + b"\x5a\x58"


def _tests_eax(bit: int) -> bytes:
    return _TEST_IMMEDIATE["EAX"] + (1 << bit).to_bytes(4, "little")


def storing_nothing(asks: Bytes) -> Bytes:
    """The same question, which does not keep registers on the stack."""
    pushes_and_pops = bytes(range(0x50, 0x54)), bytes(range(0x58, 0x5C))

    def code(at: int) -> bytes:
        question = asks(at)
        return question.lstrip(pushes_and_pops[0]).rstrip(pushes_and_pops[1])

    return code


def counter_bit(_: int) -> bytes:
    """Is bit 0 of a performance counter set? By RDPMC."""
    return b"\x50\x51\x52\x31\xc9\x0f\x33\xa8\x01\x5a\x59\x58"


def on_condition(asks: Bytes, does: Bytes) -> Bytes:
    """Do something if the answer is yes."""

    def code(at: int) -> bytes:
        question = asks(at)
        action = does(at + len(question) + 2)
        return question + b"\x74" + bytes([len(action)]) + action

    return code


def returns_at_once(_: int) -> bytes:
    """From the function whose start called this."""
    return b"\x48\x83\xc4\x08\xc3"  # add $8, %rsp; ret


def executes_wbinvd(_: int) -> bytes:
    """A flush that the kernel does not have."""
    return b"\x0f\x09"


def zeroes_global(address: int) -> Bytes:
    """Eight bytes of it."""
    return lambda at: b"\x48\xc7\x05" + relative(at + 11, address) + bytes(4)


def zeroes_per_cpu_byte(address: int) -> Bytes:
    """One byte of a per-CPU variable, by its link address."""
    return lambda at: b"\x65\xc6\x05" + relative(at + 8, address) + b"\0"


def _fentry_call(image: KernelImage, function: str) -> int:
    address = address_of(image, function)
    if image.read(address, 4) == _ENDBR64:
        address += 4
    code = image.read(address, 5)
    target = (address + 5 + int.from_bytes(code[1:], "little", signed=True)) % (1 << 64)
    assert code[0] == 0xE8
    assert target == address_of(image, "__fentry__")
    return address


def relative(start: int, target: int) -> bytes:
    """The displacement of a target, from behind the instruction."""
    return ((target - start) & 0xFFFF_FFFF).to_bytes(4, "little")
