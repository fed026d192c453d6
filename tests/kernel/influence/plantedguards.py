# SPDX-License-Identifier: GPL-2.0-or-later
"""Guards of every form, over inputs of every kind that no listed fact sets.

A guard asks for a value, which is left in RAX, compares it in some form, and does something on it.
Only RAX, RBX, RCX and RDX are used. What each instruction does: Intel SDM volume 2.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.at_sites import search_sites
from staleline.kernel.influence.first_way import FirstWay
from staleline.kernel.influence.rows import machines
from staleline.vocabulary import Site
from tests.kernel.places import address_of
from tests.kernel.plant import (
    Bytes,
    executes_wbinvd,
    flushing_at_entry,
    planted_before_halt,
    planted_call,
    pushes,
    relative,
    zeroes_global,
    zeroes_per_cpu_byte,
)

__all__ = ["PlantedGuard", "named_by_the_site", "planted_guards", "sample"]


@dataclass(frozen=True)
class Asked:
    """An input.

    Attributes:
        name: How a reason names it.
        code: Leaves it in RAX.
        stores: It stores something on the way.
    """

    name: str
    code: Bytes
    stores: bool = False


def _global(address: int, *, wide: bool = False) -> Bytes:
    load = b"\x48\x8b\x05" if wide else b"\x8b\x05"
    return lambda at: load + relative(at + len(load) + 4, address)


def _per_cpu(address: int) -> Bytes:
    return lambda at: b"\x65\x8b\x05" + relative(at + 7, address)


def _cpuid(leaf: int, register: str) -> Bytes:
    moves = {"EAX": b"", "EBX": b"\x89\xd8", "ECX": b"\x89\xc8", "EDX": b"\x89\xd0"}
    ask = b"\xb8" + leaf.to_bytes(4, "little") + b"\x31\xc9\x0f\xa2"
    return lambda _: ask + moves[register]


def _msr(number: int) -> Bytes:
    return lambda _: b"\xb9" + number.to_bytes(4, "little") + b"\x0f\x32"


def _plain(code: str) -> Bytes:
    return lambda _: bytes.fromhex(code)


#: Variables: one byte of state after another, a number, a pointer, all ones.
_GLOBALS = {
    "panic_on_warn": False,
    "boot_command_line": False,
    "reboot_force": False,
    "panic_timeout": False,
    "kexec_in_progress": False,
    "system_state": False,
    "__num_online_cpus": False,
    "panic_cpu": False,
    "page_offset_base": True,
    "crash_notes": True,
    "saved_command_line": True,
}
_PER_CPU = ("printk_pending", "cpu_number", "const_pcpu_hot+0xc")
_HARDWARE = {
    "CPUID 0x80000021 EAX": Asked("CPUID 0x80000021 EAX", _cpuid(0x8000_0021, "EAX")),
    "CPUID 0x7 EBX": Asked("CPUID 0x7 EBX", _cpuid(7, "EBX")),
    "CPUID 0x1 EBX": Asked("CPUID 0x1 EBX", _cpuid(1, "EBX")),
    "CPUID 0x1 EAX": Asked("CPUID 0x1 EAX", _cpuid(1, "EAX")),
    "CPUID 0xb EDX": Asked("CPUID 0xb EDX", _cpuid(0xB, "EDX")),
    "CPUID 0x8000001e EAX": Asked("CPUID 0x8000001e EAX", _cpuid(0x8000_001E, "EAX")),
    "MSR 0xc0011029": Asked("MSR 0xc0011029", _msr(0xC001_1029)),
    "EFER": Asked("MSR 0xc0000080", _msr(0xC000_0080)),
    "RDTSC": Asked("the time stamp", _plain("0f31")),
    "RDRAND": Asked("RDRAND or RDSEED", _plain("480fc7f0")),
    "CR0": Asked("CR0", _plain("0f20c0")),
    "CR3": Asked("CR3", _plain("0f20d8")),
    "CR4": Asked("CR4", _plain("0f20e0")),
    "DR7": Asked("DR7", _plain("0f21f8")),
    "DS": Asked("DS", _plain("8cd8")),
    "SLDT": Asked("the descriptor tables (SLDT)", _plain("0f00c0")),
    "STR": Asked("the task register", _plain("0f00c8")),
    "SMSW": Asked("CR0", _plain("0f01e0")),
    "XGETBV": Asked("XCR0", _plain("31c90f01d0")),
    "RDPKRU": Asked("RDPKRU", _plain("31c90f01ee")),
    # Below the stack pointer, and back.
    "SGDT": Asked("the descriptor tables (SGDT)", _plain("0f014424f0488b4424f0"), True),
    "SIDT": Asked("the descriptor tables (SIDT)", _plain("0f014c24f0488b4424f0"), True),
    "EFLAGS": Asked("EFLAGS", _plain("9c58"), True),
}

#: Form -> what it does with RAX, and a jump over the rest if the answer is no, which the length
#: of the rest is appended to.
_FORMS = {
    "a bit": "a80274",  # test al, 2; jz
    "a high bit": "a90000001074",  # test eax, 1 << 28; jz
    "BT": "0fbae01173",  # bt eax, 17; jnc
    "an odd number": "3dedfe340275",  # cmp eax, 0x234feed; jne
    "one more odd number": "3d2a00000075",  # cmp eax, 42; jne
    "a signed threshold": "83f8027d",  # cmp eax, 2; jge
    "an unsigned threshold": "3d0010000076",  # cmp eax, 0x1000; jbe
    "the sign of 64 bits": "4885c079",  # test rax, rax; jns
    "all ones": "4883f8ff75",  # cmp rax, -1; jne
    "not all ones": "4883f8ff74",  # cmp rax, -1; je
    "SETcc": "83f8050f94c00fb6c085c074",  # cmp eax, 5; sete al; movzx eax, al; test; jz
    "CMOVcc": "31c9ba0100000083f8030f44ca85c974",  # ...; cmp eax, 3; cmove ecx, edx; test; jz
    "SBB": "83f80919c985c979",  # cmp eax, 9; sbb ecx, ecx; test ecx, ecx; jns
    "shifted": "c1e80583e00185c074",  # shr eax, 5; and eax, 1; test eax, eax; jz
    "multiplied": "69c0e703000081f8b80b000075",  # imul eax, eax, 999; cmp eax, 3000; jne
    "the low byte": "3c0775",  # cmp al, 7; jne
    "JRCXZ": "89c183e10ce3",  # mov ecx, eax; and ecx, 12; jrcxz
    "LOOP": "8d4801e2",  # lea ecx, [rax + 1]; loop: on if EAX is 0
    # xor edx, edx; 1: test eax, eax; je 2f; inc edx; shr eax, 1; jmp 1b; 2: cmp edx, 6; jne
    "how often a loop shifts": "31d285c07406ffc2d1e8ebf683fa0675",
    # mov ecx, eax; and ecx, 15; mov edx, 1; 1: jrcxz 2f; add edx, edx; dec ecx; jmp 1b; 2: test dl,
    # 32; jz
    "a constant that a loop shifts": "89c183e10fba01000000e30601d2ffc9ebf8f6c22074",
    # xor ecx, ecx; test al, 4; je 1f; inc ecx; 1: test al, 16; je 2f; inc ecx; 2: cmp ecx, 2; jne
    "a count of conditions": "31c9a8047402ffc1a8107402ffc183f90275",
    # push 0; and eax, 7; mov byte [rsp + rax], 1; cmp byte [rsp + 3], 1; lea rsp, [rsp + 8]; jne
    "where it is stored": "6a0083e007c6040401807c240301488d64240875",
    # push 0; push 0; and eax, 127; bts [rsp], rax; test byte [rsp + 13], 32; ...; jz
    "which bit is set": "6a006a0083e07f480fab0424f644240d20488d64241074",
    # push rdi; push 0x070503; mov rdi, rsp; mov ecx, 4; repne scasb; pop rdx; pop rdi; cmp ecx, 2
    "how far it is searched": "5768030507004889e7b904000000f2ae5a5f83f90275",
    # push rax; fild dword [rsp]; fistp dword [rsp]; cmp dword [rsp], 42; lea rsp, [rsp + 8]; jne
    "x87": "50db0424db1c24833c242a488d64240875",
}
#: These store something on the way, whatever the answer.
_STORING_FORMS = frozenset(
    ("where it is stored", "which bit is set", "how far it is searched", "x87")
)


def _jump_table(at: int, rest: bytes) -> bytes:
    """By the two lowest bits through a table of four addresses: on 3 alone it is done."""
    code = b"\x83\xe0\x03\x48\x8d\x0d"  # and eax, 3; lea rcx, [table]
    jump = b"\xff\x24\xc1"  # jmp [rcx + rax * 8]
    start = at + len(code) + 4 + len(jump)
    table = start + len(rest) + 2
    behind = table + 32
    entries = [behind, behind, behind, start]
    skip = b"\xeb\x20"
    return (
        code
        + relative(at + len(code) + 4, table)
        + jump
        + rest
        + skip
        + b"".join(entry.to_bytes(8, "little") for entry in entries)
    )


def _value_table(at: int, rest: bytes) -> bytes:
    """By a byte in a table of four, of which that of 2 alone is not zero."""
    code = b"\x83\xe0\x03\x48\x8d\x0d"
    look = b"\x80\x3c\x01\x00\x74" + bytes([len(rest) + 6])  # cmp byte [rcx + rax], 0; jz
    end = at + len(code) + 4 + len(look) + len(rest) + 2
    return code + relative(at + len(code) + 4, end) + look + rest + b"\xeb\x04" + b"\0\0\1\0"


def _on_form(asks: Bytes, form: str, does: Bytes) -> Bytes:
    """Do something on the answer."""

    def code(at: int) -> bytes:
        question = asks(at)
        begin = at + len(question)
        match form:
            case "a jump table":
                return question + _jump_table(begin, does(begin + 13))
            case "a table of values":
                return question + _value_table(begin, does(begin + 16))
            case _:
                asked = bytes.fromhex(_FORMS[form])
                action = does(begin + len(asked) + 1)
                return question + asked + bytes([len(action)]) + action

    return code


FORMS = (*_FORMS, "a jump table", "a table of values")


def _stores_counted(asks: Bytes) -> Bytes:
    """As many bytes on the stack as the lowest bits say, by REP STOSB."""
    count = bytes.fromhex("89c183e108488d7c24c0f3aa")  # ecx = eax & 8; lea rdi, [rsp - 64]
    return lambda at: asks(at) + count


def _kept(code: Bytes) -> Bytes:
    """With the registers and flags kept that a guard uses."""
    before, behind = b"\x9c\x50\x53\x51\x52", b"\x5a\x59\x5b\x58\x9d"
    return lambda at: before + code(at + len(before)) + behind


Place = Callable[[KernelImage, Asked, str], KernelImage]


def _at(function: str, does: Callable[[KernelImage], Bytes]) -> Place:
    def plant(image: KernelImage, asked: Asked, form: str) -> KernelImage:
        return planted_call(image, function, _kept(_on_form(asked.code, form, does(image))))

    return plant


def _flush(_: KernelImage) -> Bytes:
    return executes_wbinvd


def _no_flush(image: KernelImage) -> Bytes:
    """The jumping CPU's guard forgets that SME is active."""
    flag = image.symbols.address("cache_state_incoherent")
    if flag is None:
        return zeroes_global(address_of(image, "sme_me_mask"))
    return zeroes_per_cpu_byte(flag)


def _store(image: KernelImage, asked: Asked, form: str) -> KernelImage:
    return planted_before_halt(image, _on_form(asked.code, form, pushes))


def _counted(image: KernelImage, asked: Asked, _: str) -> KernelImage:
    return planted_before_halt(image, _stores_counted(asked.code))


def _late_flush(image: KernelImage, asked: Asked, form: str) -> KernelImage:
    """After a flush at the entry, one at the end takes back what is left behind, or none does."""
    early = flushing_at_entry(image, "stop_this_cpu")
    return planted_before_halt(early, _on_form(asked.code, form, executes_wbinvd))


#: What is planted where -> the site that asks then.
PLACES: dict[str, tuple[Site, Place]] = {
    "a flush in stop_this_cpu": (Site.STOP_THIS_CPU, _at("stop_this_cpu", _flush)),
    "a flush in __sysvec_reboot": (Site.STOP_THIS_CPU, _at("__sysvec_reboot", _flush)),
    "a flush in machine_kexec": (Site.RELOCATE_KERNEL, _at("machine_kexec", _flush)),
    "no flush in machine_kexec": (Site.RELOCATE_KERNEL, _at("machine_kexec", _no_flush)),
    "a flush in crash_nmi_callback": (
        Site.CRASH_NMI_CALLBACK,
        _at("crash_nmi_callback", _flush),
    ),
    "a store after the flush": (Site.STOP_THIS_CPU, _store),
    "counted stores after the flush": (Site.STOP_THIS_CPU, _counted),
    "a late flush after an early one": (Site.STOP_THIS_CPU, _late_flush),
}
_BEFORE_HALT = ("store", "stores", "late")


@dataclass(frozen=True)
class PlantedGuard:
    """One of them.

    Attributes:
        where: What is planted, and where.
        form: How the value is asked.
        asked: What.
    """

    where: str
    form: str
    asked: Asked

    @property
    def site(self) -> Site:
        """The site that asks."""
        return PLACES[self.where][0]

    def plant(self, image: KernelImage) -> KernelImage:
        """The kernel with it."""
        return PLACES[self.where][1](image, self.asked, self.form)

    def __str__(self) -> str:
        return f"{self.where}, on {self.form} of {self.asked.name}"


def _inputs(image: KernelImage) -> Iterator[Asked]:
    for name, wide in _GLOBALS.items():
        address = image.symbols.address(name)
        if address is not None:
            yield Asked(name, _global(address, wide=wide))
    for place in _PER_CPU:
        name, _, offset = place.partition("+")
        address = image.symbols.address(name)
        if address is not None:
            yield Asked(f"per-CPU {place}", _per_cpu(address + int(offset or "0", 16)))
    yield from _HARDWARE.values()


def planted_guards(image: KernelImage) -> Iterator[PlantedGuard]:
    """All that there are for an image."""
    for where, form, asked in product(PLACES, FORMS, _inputs(image)):
        at_the_end = any(word in where.split() for word in _BEFORE_HALT)
        if where.startswith("counted") and form != FORMS[0]:
            continue
        # There what the question itself stores is left behind whatever the answer.
        if not (at_the_end and (asked.stores or form in _STORING_FORMS)):
            yield PlantedGuard(where, form, asked)


def sample(image: KernelImage, count: int, seed: object) -> list[PlantedGuard]:
    """The same ones each time."""
    return random.Random(str(seed)).sample(list(planted_guards(image)), count)


def named_by_the_site(image: KernelImage, guard: PlantedGuard) -> set[str]:
    """What the site depends on in the kernel with this guard, beside the listed facts."""
    mutant = guard.plant(image)
    reruns = FirstWay(mutant)
    with reruns.series():
        found = search_sites(reruns, list(machines(mutant)), sites=(guard.site,))
    influences = found[guard.site].influences.values()
    return {influence.name for influence in influences if not influence.explained}
