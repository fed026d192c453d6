# SPDX-License-Identifier: GPL-2.0-or-later
"""How a CPU answers what it is asked, and what it keeps from one run to the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.evidence.registers import CpuidTable
from staleline.hardware import RAX, RCX, RDX, SEV_STATUS, SYSCFG
from staleline.kernel.emulator.refused import Operation, RefusedInstruction
from staleline.kernel.emulator.traps import CpuState, LogicalCpu, answer

AMD = (0x10, 0x68747541, 0x444D4163, 0x69746E65)
GS_BASE, KERNEL_GS_BASE = 0xC000_0101, 0xC000_0102
CARRY = 1 << 0
OTHER_STATUS_FLAGS = 0b1000_1101_0100


def cpu(msr: dict[int, int] | None = None, *, seam: bool = False) -> LogicalCpu:
    return LogicalCpu(0, CpuidTable({(0, 0): AMD}), msr or {}, seam=seam)


def state(**general: int) -> CpuState:
    begun = CpuState(gs_base=0x1111)
    for name, value in general.items():
        begun.general[{"rax": RAX, "rcx": RCX, "rdx": RDX}[name]] = value
    return begun


def ask(of: LogicalCpu, operation: Operation, at: CpuState, **form: int) -> bool:
    return answer(of, RefusedInstruction(operation, 2, **form), at)


def test_an_msr_reads_as_it_was_written_else_as_firmware_left_it_else_as_zero() -> None:
    asked = cpu({SYSCFG: 0x80_0000})
    assert [asked.read_msr(number) for number in (SYSCFG, SEV_STATUS)] == [0x80_0000, 0]
    asked.write_msr(SYSCFG, 1)
    assert asked.read_msr(SYSCFG) == 1
    assert asked.msrs_read == {SYSCFG, SEV_STATUS}


def test_what_the_kernel_wrote_itself_is_no_question_to_the_hardware() -> None:
    asked = cpu()
    asked.write_msr(SYSCFG, 1)
    asked.read_msr(SYSCFG)
    assert asked.record == {}
    asked.read_msr(SEV_STATUS)
    assert asked.record == {(0, SEV_STATUS): (0,)}


@given(st.integers(0, 2**64 - 1))
def test_rdmsr_and_wrmsr_go_by_halves_and_clear_what_is_above(value: int) -> None:
    # AMD APM volume 3: EDX:EAX, and in 64-bit mode the upper halves of both are cleared.
    asked, at = cpu(), state(rcx=0x10, rax=value & 0xFFFF_FFFF, rdx=value >> 32)
    assert ask(asked, Operation.WRMSR, at)
    at.general[RAX] = at.general[RDX] = 2**64 - 1
    assert ask(asked, Operation.RDMSR, at)
    assert (at.general[RAX], at.general[RDX]) == (value & 0xFFFF_FFFF, value >> 32)


def test_the_gs_base_is_one_register_by_whatever_name() -> None:
    asked, at = cpu(), state(rcx=GS_BASE, rax=0x2222)
    ask(asked, Operation.WRMSR, at)
    assert at.gs_base == 0x2222
    ask(asked, Operation.RDGSBASE, at, general=RDX)
    assert at.general[RDX] == 0x2222
    ask(asked, Operation.SWAPGS, at)
    assert (at.gs_base, asked.read_msr(KERNEL_GS_BASE)) == (0, 0x2222)
    ask(asked, Operation.SWAPGS, at)
    assert at.gs_base == 0x2222


def test_a_leaf_that_no_dump_has_reads_as_zeros_and_is_told_if_it_decides() -> None:
    asked = cpu()
    assert asked.execute_cpuid(0x8000_001F, 0) == (0, 0, 0, 0)
    assert asked.execute_cpuid(0xD, 0) == (0, 0, 0, 0)
    assert asked.leaves_missing == {0xD, 0x8000_001F}
    assert asked.decisive_leaf_missing == 0x8000_001F
    # AMD's CPUs answer zeros beyond their maximum, which is known here: nothing is missing.
    assert asked.execute_cpuid(0x16, 0) == (0, 0, 0, 0)
    assert 0x16 not in asked.leaves_missing


def test_the_time_stamp_goes_on_and_random_numbers_differ_alike_in_every_run() -> None:
    first, again = cpu(), cpu()
    stamps = [first.read_time_stamp() for _ in range(3)]
    assert stamps == sorted(set(stamps))
    numbers = [first.read_random() for _ in range(3)]
    assert len(set(numbers)) == 3
    assert numbers == [again.read_random() for _ in range(3)]


@pytest.mark.parametrize(
    ("width", "left"), [(64, 0), (32, 0), (16, 0xFFFF_FFFF_FFFF_0000)], ids=str
)
def test_rdrand_writes_its_operands_width(width: int, left: int) -> None:
    # A 32-bit result clears the upper half; CF says that there was a number (APM volume 3).
    at = state(rax=2**64 - 1)
    at.flags = OTHER_STATUS_FLAGS
    assert ask(cpu(), Operation.RDRAND, at, general=RAX, width=width)
    assert at.general[RAX] >> min(width, 63) << min(width, 63) in (left, at.general[RAX] & 1 << 63)
    assert at.flags == CARRY


def test_a_seamcall_succeeds_where_the_module_runs_and_is_not_modelled_elsewhere() -> None:
    at = state(rax=33)
    at.flags = CARRY
    assert not ask(cpu(), Operation.SEAMCALL, at)
    with_module = cpu(seam=True)
    assert ask(with_module, Operation.SEAMCALL, at)
    assert (at.general[RAX], at.flags & CARRY, with_module.seamcalls) == (0, 0, 1)


def test_only_an_snp_guest_adjusts_pages() -> None:
    # MSR_AMD64_SEV_SNP_ENABLED_BIT (linux 7.3.4 arch/x86/include/asm/msr-index.h:716).
    at = state(rax=7)
    assert not ask(cpu({SEV_STATUS: 0b011}), Operation.RMPADJUST, at)
    assert ask(cpu({SEV_STATUS: 0b111}), Operation.RMPADJUST, at)
    assert at.general[RAX] == 0


def test_there_are_five_control_registers_and_nobody_but_kvm_enables_vmx() -> None:
    asked = cpu()
    assert asked.read_control(1) is None
    assert not asked.write_control(5, 0)
    assert asked.write_control(4, 2**64 - 1)
    assert asked.read_control(4) == 2**64 - 1 - (1 << 13)


def test_a_fork_goes_on_from_the_same_state_and_leaves_the_first_alone() -> None:
    first = cpu()
    first.write_msr(SYSCFG, 1)
    first.flushes.append(0x1000)
    fork = first.going_on_as(cpu({SEV_STATUS: 1}), {})
    assert fork.kept == first.kept
    assert fork.read_msr(SEV_STATUS) == 1
    fork.write_msr(SYSCFG, 2)
    fork.flushes.append(0x2000)
    assert (first.read_msr(SYSCFG), first.flushes, first.record) == (1, [0x1000], {})
    assert fork.kept != first.kept


def test_what_is_not_listed_is_not_modelled() -> None:
    for operation in (Operation.WBINVD, Operation.HLT, Operation.IRET, Operation.UD2):
        assert not ask(cpu(), operation, state())
