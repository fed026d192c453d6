# SPDX-License-Identifier: GPL-2.0-or-later
"""What an instruction asks for is known where it is constant, and never anything else."""

from __future__ import annotations

import pytest
import unicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from tools.boot_questions import CPUID, RDMSR, Question, questions
from unicorn import x86_const as ux

from tests.kernel.inventory.test_inventory import FUNCTION_SIZE, TEXT, kernel
from tests.kernel.places import function_at

LEAF = 0x8000_001F
CONSTANT = 0xFFFF_FFFF
MOV_EAX, MOV_ECX = "b81f000080", "b910000100"  # 0x8000001f, 0x10010
ASK = "0fa2"


def question(code: str, *others: str) -> Question:
    """The one of the first function; the other functions are behind it."""
    image = kernel(function=code, **{f"other{at}": other for at, other in enumerate(others)})
    (found,) = [asked for at, asked in questions(image).items() if at < TEXT + FUNCTION_SIZE]
    return found


class TestConstants:
    @pytest.mark.parametrize(
        "between",
        ["", "31c9", "c70424000000008d4c2404", "7420", "0f8440000000"],
        ids=["nothing", "another register", "memory", "a jump away", "a jump far away"],
    )
    def test_a_leaf_loaded_before(self, between: str) -> None:
        assert question(MOV_EAX + between + ASK) == Question(CPUID, LEAF, CONSTANT)

    def test_zero(self) -> None:
        assert question("31c0" + ASK) == Question(CPUID, 0, CONSTANT)

    def test_a_half_of_a_leaf(self) -> None:
        """``cb->level & 0xffff0000``: arch/x86/kernel/cpu/scattered.c:71 (6.12.117)."""
        found = question("8b46046631c0" + ASK)
        assert found == Question(CPUID, 0, 0xFFFF)
        assert found.may_be(0x8000_0000)
        assert not found.may_be(LEAF)

    def test_an_msr(self) -> None:
        image = kernel(tdx_init="b9870000000f32", another="b9870000000f32")
        assert questions(image) == {TEXT + 5: Question(RDMSR, 0x87, CONSTANT)}


class TestAnythingElse:
    @pytest.mark.parametrize(
        "between",
        ["89d0", "ffc0", "b000", "e800000000", "c3", "eb02", "93", "0fa2", "06"],
        ids=["mov", "inc", "al", "call", "ret", "jmp", "xchg", "cpuid", "no instruction"],
    )
    def test_what_changes_the_register_or_goes_elsewhere(self, between: str) -> None:
        image = kernel(function=MOV_EAX + between + ASK)
        last = max(questions(image).items())[1]
        assert last == Question(CPUID)

    def test_nothing_loads_it(self) -> None:
        assert question("9090" + ASK) == Question(CPUID)

    def test_a_jump_from_before(self) -> None:
        assert question("7405" + MOV_EAX + ASK) == Question(CPUID)

    def test_a_jump_from_behind(self) -> None:
        assert question(MOV_EAX + ASK + "89f8ebfa") == Question(CPUID)

    @pytest.mark.parametrize("jump", ["e9", "0f85"])
    def test_a_jump_from_another_function(self, jump: str) -> None:
        length = len(jump) // 2 + 4
        distance = 5 - FUNCTION_SIZE - length
        there = jump + distance.to_bytes(4, "little", signed=True).hex()
        assert question(MOV_EAX + ASK, there) == Question(CPUID)

    def test_a_jump_to_what_loads_it_does_no_harm(self) -> None:
        assert question(MOV_EAX + ASK + "ebf7") == Question(CPUID, LEAF, CONSTANT)


PIECES = (MOV_EAX, MOV_ECX, "31c0", "6631c0", "89c8", "ffc0", "39c8", "90", "c1e808")


@settings(max_examples=150)
@given(st.lists(st.sampled_from(PIECES) | st.integers(0, 6), max_size=12), st.integers(0, 1 << 31))
def test_what_is_asked_is_never_ruled_out(parts: list[str | int], eax: int) -> None:
    """A number is a conditional jump over as many of the following pieces."""
    sizes = [2 if isinstance(part, int) else len(part) // 2 for part in parts]
    code = "".join(
        part if isinstance(part, str) else f"74{sum(sizes[at + 1 : at + 1 + part]):02x}"
        for at, part in enumerate(parts)
    )
    size = len(code) // 2
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    machine.mem_map(0x1000, 0x1000)
    machine.mem_write(0x1000, bytes.fromhex(code))
    machine.reg_write(ux.UC_X86_REG_RAX, eax)
    if size:
        machine.emu_start(0x1000, 0x1000 + size)
    asked = machine.reg_read(ux.UC_X86_REG_EAX)
    assert question(code + ASK).may_be(asked)


def test_a_real_kernel(real_kernels) -> None:
    """native_cpuid() is passed the leaf; sme_enable() asks for 0x8000001f with a CPUID of its own.

    arch/x86/include/asm/cpuid.h:30 and arch/x86/mm/mem_encrypt_identity.c:521 (6.12.117).
    """
    image = real_kernels["6.12"].image
    found = {at: asked for at, asked in questions(image).items() if asked.may_be(LEAF)}
    names = {function_at(image, at): asked for at, asked in found.items()}
    assert names["native_cpuid"] == Question(CPUID)
    assert names["sme_enable"] == Question(CPUID, LEAF, CONSTANT)
