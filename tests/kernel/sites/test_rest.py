# SPDX-License-Identifier: GPL-2.0-or-later
"""What a CPU that has halted for good executes when it is woken, planted into a real kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from staleline.kernel.boot.decision import Decision, RawMachine
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import instructions, patched
from tests.kernel.places import address_of
from tests.kernel.plant import CAVE, relative

ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, True)


@pytest.fixture(scope="module", params=["5.10", "7"])
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def decide(image: KernelImage) -> Decision:
    return KernelReader(image).decide(ROME)


def counted(image: KernelImage) -> Callable[[int], bytes]:
    """``addl $1, panic_timeout(%rip)``, as long as the VERW of an idle CPU."""
    variable = address_of(image, "panic_timeout")
    return lambda at: b"\x83\x05" + relative(at + 7, variable) + b"\x01"


def woken_storing(image: KernelImage) -> KernelImage:
    """``stop_this_cpu()`` jumps over a VERW to its HLT, and behind that to the VERW, or before."""
    code = list(instructions(image, "stop_this_cpu"))
    at = next(i for i, one in enumerate(code) if one.mnemonic == "hlt")
    verw, jump = code[at - 1], code[at + 1]
    assert (verw.mnemonic, jump.mnemonic, len(verw.code)) == ("verw", "jmp", 7)
    mutant = patched(image, verw.address, counted(image)(verw.address))
    back = (verw.address - jump.address - 2).to_bytes(1, "little", signed=True)
    return patched(mutant, jump.address, b"\xeb" + back)


def test_a_stopped_cpu_stores_when_it_is_woken(image):
    decision = decide(woken_storing(image))
    assert decision.stop_this_cpu.flushes is None
    assert "woken" in (decision.stop_this_cpu.unknown or "")
    assert decision.stop_this_cpu.unknown is not None
    assert "panic_timeout" in decision.stop_this_cpu.unknown


def woken_executing(image: KernelImage, does: bytes) -> KernelImage:
    """The same with anything, in place of the VERW."""
    code = list(instructions(image, "stop_this_cpu"))
    at = next(i for i, one in enumerate(code) if one.mnemonic == "hlt")
    verw, cave = code[at - 1], address_of(image, CAVE)
    mutant = woken_storing(image)
    mutant = patched(mutant, verw.address, b"\xe9" + relative(verw.address + 5, cave) + b"\x90" * 2)
    back = cave + len(does)
    return patched(mutant, cave, does + b"\xe9" + relative(back + 5, code[at].address))


#: What stores, traps, or lets an interrupt in, without an operand in memory that says so.
LOUD = {
    "maskmovdqu": "660ff7c0",
    "maskmovq": "0ff7c0",
    "clzero": "0f01fc",
    "movdir64b": "660f38f800",
    "vmsave": "0f01db",
    "mov %eax, %ds": "8ed8",
    "ud2": "0f0b",
    "int3": "cc",
    "int $0x80": "cd80",
    "div %ecx": "f7f1",
    "mov 0, %rax": "488b042500000000",
    "sti": "fb",
    "popf": "9d",
    "wrmsr": "0f30",
}


@pytest.mark.parametrize("name", LOUD)
def test_a_stopped_cpu_does_not_rest_when_it_is_woken(image, name):
    decision = decide(woken_executing(image, bytes.fromhex(LOUD[name])))
    assert decision.stop_this_cpu.flushes is None
    assert "a CPU that is woken from its HLT does not just rest" in (
        decision.stop_this_cpu.unknown or ""
    )


@pytest.mark.parametrize("quiet", ["90", "f390", "fa", "4889c1", "31c0", "0faee8"])
def test_a_stopped_cpu_that_does_no_harm_when_it_is_woken(image, quiet):
    """NOP, PAUSE, CLI, MOV and XOR of registers, LFENCE."""
    assert decide(woken_executing(image, bytes.fromhex(quiet))).stop_this_cpu.flushes is True


#: movabs $0xffffffffff5fd000, %rax: registers of the local APIC, which are not cached.
LOCAL_APIC = b"\x48\xb8" + (0xFFFF_FFFF_FF5F_D000).to_bytes(8, "little")


def test_a_stopped_cpu_stores_far_from_the_registers_of_a_device(image):
    far = address_of(image, "panic_timeout") - 0xFFFF_FFFF_FF5F_D000
    store = b"\x89\x88" + far.to_bytes(4, "little", signed=True)  # mov %ecx, far(%rax)
    reason = decide(woken_executing(image, LOCAL_APIC + store)).stop_this_cpu.unknown
    assert "it stores to memory" in (reason or "")


def test_a_stopped_cpu_stores_by_a_segment_to_another_place(image):
    reason = decide(woken_executing(image, LOCAL_APIC + b"\x65\x89\x08")).stop_this_cpu.unknown
    assert "it stores to memory" in (reason or "")


@pytest.mark.parametrize("part", ["66b80000", "b000", "b400", "89c8"])
def test_a_stopped_cpu_stores_where_a_part_of_a_register_leads(image, part):
    """MOV to AX, AL, AH and EAX, behind which RAX is another address; MOV %ECX, (%RAX)."""
    does = LOCAL_APIC + bytes.fromhex(part) + b"\x89\x08"
    reason = decide(woken_executing(image, does)).stop_this_cpu.unknown
    assert "it stores to memory" in (reason or "")


def test_a_stopped_cpu_may_store_to_registers_of_a_device(image):
    # Behind the first page's begin: the task priority, at 0x80.
    does = LOCAL_APIC + b"\x89\x88\x80\0\0\0"
    assert decide(woken_executing(image, does)).stop_this_cpu.flushes is True
