# SPDX-License-Identifier: GPL-2.0-or-later
"""One emulated logical CPU: how it answers CPUID and privileged instructions.

The state here is what Unicorn does not hold: CPUID leaves, MSRs, control registers, and
the record of what the kernel asked and which WBINVDs it executed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Self

from staleline.evidence.registers import CpuidTable
from staleline.hardware import (
    ENCRYPTION_LEAF,
    GENERAL_REGISTERS,
    MASK_32,
    MASK_64,
    RAX,
    RCX,
    RDX,
    SEV_STATUS,
)
from staleline.kernel.emulator.refused import Operation, RefusedInstruction

__all__ = [
    "DECISIVE_LEAVES",
    "RANDOM",
    "STATUS_FLAGS",
    "TIME",
    "Answer",
    "CpuState",
    "LogicalCpu",
    "Question",
    "answer",
    "control_name",
]

#: What a CPU asks of the hardware: (CPU, CPUID leaf, sub-leaf) or (CPU, MSR).
Question = tuple[int, int, int] | tuple[int, int]
#: EAX, EBX, ECX, EDX; or the MSR's value as firmware left it.
Answer = tuple[int, ...]

#: Leaves that decide something in the code that is run; without them nothing is known.
DECISIVE_LEAVES = frozenset((0x0, 0x1, 0x7, 0x8000_0000, 0x8000_0001, ENCRYPTION_LEAF))

_MSR_GS_BASE = 0xC000_0101
_MSR_KERNEL_GS_BASE = 0xC000_0102
_SNP_ENABLED = 1 << 2
_RMP_SUCCESS = 0  # of RMPADJUST, APM volume 3
_CR0_BOOT = 0x8005_0033  # PE MP ET NE WP AM PG: CR0_STATE, processor-flags.h
_CR4_BOOT = 0x0000_00B0  # PSE PAE PGE: what head_64.S leaves
_CR4_VMXE = 1 << 13
#: Debug registers are kept behind the control registers, by their number and this.
_DEBUG = 1 << 8
_TDX_SUCCESS = 0  # asm/shared/tdx_errno.h
_CARRY = 1 << 0
_TSC_STEP = 1_000_000
STATUS_FLAGS = 0b1000_1101_0101  # OF SF ZF AF PF CF
#: What RDRAND, RDSEED and the time stamp are asked as: numbers that no MSR has.
RANDOM, TIME = 1 << 32, 1 << 33


@dataclass(slots=True)
class CpuState:
    """The registers of a CPU at a refused instruction; `general` by x86's numbers."""

    general: list[int] = field(default_factory=lambda: [0] * len(GENERAL_REGISTERS))
    rip: int = 0
    flags: int = 0
    fs_base: int = 0
    gs_base: int = 0


@dataclass(slots=True, eq=False)
class LogicalCpu:
    """One CPU of a machine under emulation.

    Attributes:
        number: As ``smp_processor_id()`` counts: 0 is the jumping CPU.
        cpuid: Its CPUID leaves.
        msr: Its MSRs as firmware left them; absent ones read as 0.
        gs_base: Its per-CPU offset.
        seam: It is a CPU on which the TDX module runs: SEAMCALL succeeds.
        traps: Instructions answered.
        seamcalls: How many SEAMCALLs the TDX module answered.
        flushes: Addresses of the WBINVDs it executed, in order.
        commands: Where it interrupted or woke others, in order.
        msrs_read: MSRs the kernel read.
        leaves_read: CPUID leaves the kernel executed.
        leaves_missing: Those of them that the table cannot answer.
        record: What CPUs sharing it asked of the hardware and were answered, in the order of
            first asking. CPUID and MSRs that the kernel did not write answer the same each
            time, so what a run does is a function of where it starts and of this record. It
            may be cleared between two runs, to begin a new one.
    """

    number: int
    cpuid: CpuidTable
    msr: Mapping[int, int]
    gs_base: int = 0
    seam: bool = False
    traps: int = 0
    seamcalls: int = 0
    flushes: list[int] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)
    msrs_read: set[int] = field(default_factory=set)
    leaves_read: set[int] = field(default_factory=set)
    leaves_missing: set[int] = field(default_factory=set)
    record: dict[Question, Answer] = field(default_factory=dict)
    _msr_written: dict[int, int] = field(default_factory=dict)
    _control: dict[int, int] = field(
        default_factory=lambda: {0: _CR0_BOOT, 2: 0, 3: 0, 4: _CR4_BOOT, 8: 0}
    )
    _time: int = 0
    _random: int = 0

    def execute_cpuid(self, leaf: int, subleaf: int) -> Answer:
        """Zeros where the table does not tell, and a note of the leaf."""
        self.leaves_read.add(leaf)
        if (leaf, 0) not in self.cpuid.leaves and self.cpuid.read(leaf, subleaf) is None:
            self.leaves_missing.add(leaf)
        return self.hardware((self.number, leaf, subleaf))

    def read_msr(self, number: int) -> int:
        """What the kernel wrote last, else what firmware left, else 0."""
        self.msrs_read.add(number)
        written = self._msr_written.get(number)
        if written is not None:
            return written
        (value,) = self.hardware((self.number, number))
        return value

    def hardware(self, question: Question) -> Answer:
        """What the hardware answers, with a note that it was asked: by the kernel or firmware."""
        answer = self.record.get(question)
        if answer is None:
            answer = self.record[question] = self.answer(question)
        return answer

    @property
    def is_snp_guest(self) -> bool:
        """SEV_STATUS says so (MSR_AMD64_SEV_SNP_ENABLED, asm/msr-index.h, 5.19 to 7.3)."""
        (status,) = self.hardware((self.number, SEV_STATUS))
        return bool(status & _SNP_ENABLED)

    def answer(self, question: Question) -> Answer:
        """What the hardware answers, whether it is asked or not."""
        if len(question) == 2:
            return (self.msr.get(question[1], 0),)
        _, leaf, subleaf = question
        return self.cpuid.read(leaf, subleaf) or (0, 0, 0, 0)

    @property
    def kept(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """What a CPU keeps between runs: MSRs written, control and debug registers, time."""
        written, control = sorted(self._msr_written.items()), sorted(self._control.items())
        # Whether SEAMCALL succeeds is no question to the hardware, so it is not in the record.
        counts = (self._time, self._random, int(self.seam))
        return tuple(written), tuple(control), tuple(enumerate(counts))

    def going_on_as(self, other: LogicalCpu, record: dict[Question, Answer]) -> Self:
        """A CPU in the state of this one, which answers as `other` does.

        Args:
            other: A CPU that would have come to the same state.
            record: What it asks from here on is added to this.
        """
        fork = type(self).__new__(type(self))
        for name in _names(type(self)):  # as `copy.copy` does, which takes ten times as long
            setattr(fork, name, getattr(self, name))
        fork.cpuid, fork.msr, fork.record = other.cpuid, other.msr, record
        fork.flushes = self.flushes.copy()
        fork.commands = self.commands.copy()
        fork.msrs_read = self.msrs_read.copy()
        fork.leaves_read = self.leaves_read.copy()
        fork.leaves_missing = self.leaves_missing.copy()
        fork._msr_written = self._msr_written.copy()
        fork._control = self._control.copy()
        return fork

    def take_over(self, other: LogicalCpu) -> None:
        """Come to the state of a CPU that answers the same, with what it asked so far."""
        fork = other.going_on_as(other, other.record)
        for name in _names(LogicalCpu):
            if name not in ("number", "cpuid", "msr", "record"):
                setattr(self, name, getattr(fork, name))
        self.record.update(other.record)

    def write_msr(self, number: int, value: int) -> None:
        """Keep the value for later reads."""
        self._msr_written[number] = value & MASK_64

    def read_control(self, number: int) -> int | None:
        """A control register, or None if there is no such register."""
        return self._control.get(number)

    def write_control(self, number: int, value: int) -> bool:
        """Keep the value; False if there is no such register."""
        if number not in self._control:
            return False
        # Nobody but KVM, a module, sets VMXE; where cr4_init_shadow() was not called a kernel sets
        # all bits with any (cpu_tlbstate.cr4 is ~0, arch/x86/mm/tlb.c), which no CPU would take.
        self._control[number] = value & (MASK_64 if number != 4 else MASK_64 & ~_CR4_VMXE)
        return True

    def read_debug(self, number: int) -> int:
        """A debug register; before the kernel writes it there is no breakpoint in it."""
        return self._control.get(_DEBUG + number, 0)

    def write_debug(self, number: int, value: int) -> None:
        """Keep the value for later reads."""
        self._control[_DEBUG + number] = value

    def read_time_stamp(self) -> int:
        """A clock that runs fast, so delay loops end soon; what it begins with is an input."""
        self._time += _TSC_STEP
        return self._time ^ self._input(TIME)

    def read_random(self) -> int:
        """Another number each time, the same in each run; which numbers they are is an input."""
        self._random += 1
        digest = hashlib.blake2b(self._random.to_bytes(8, "little"), digest_size=8).digest()
        return int.from_bytes(digest, "little") ^ self._input(RANDOM)

    def _input(self, number: int) -> int:
        """What no evidence tells: nothing, unless it is varied."""
        (value,) = self.hardware((self.number, number))
        return value

    @property
    def decisive_leaf_missing(self) -> int | None:
        """A leaf that was needed and is in no dump, or None."""
        missing = self.leaves_missing & DECISIVE_LEAVES
        return min(missing) if missing else None


_NAMES: Final[dict[type, tuple[str, ...]]] = {}


def _names(kind: type[LogicalCpu]) -> tuple[str, ...]:
    """Of its attributes."""
    if kind not in _NAMES:
        _NAMES[kind] = tuple(one.name for one in fields(kind))
    return _NAMES[kind]


def control_name(number: int) -> str:
    """Of a control or debug register, as `LogicalCpu.kept` numbers them."""
    return f"DR{number - _DEBUG}" if number >= _DEBUG else f"CR{number}"


def answer(cpu: LogicalCpu, instruction: RefusedInstruction, state: CpuState) -> bool:
    """Change `cpu` and `state` as the instruction would, but for RIP.

    Returns:
        False if the instruction, or this form of it, is not modelled.
    """
    action = _ACTIONS.get(instruction.operation)
    return action is not None and action(cpu, instruction, state)


def _read_msr(cpu: LogicalCpu, _: RefusedInstruction, state: CpuState) -> bool:
    number = state.general[RCX] & MASK_32
    # Unicorn holds this one, which SWAPGS and WRGSBASE change as well.
    value = state.gs_base if number == _MSR_GS_BASE else cpu.read_msr(number)
    _put_halves(state, value)
    return True


def _write_msr(cpu: LogicalCpu, _: RefusedInstruction, state: CpuState) -> bool:
    number = state.general[RCX] & MASK_32
    value = (state.general[RDX] & MASK_32) << 32 | (state.general[RAX] & MASK_32)
    if number == _MSR_GS_BASE:
        state.gs_base = value
    cpu.write_msr(number, value)
    return True


def _read_time_stamp(cpu: LogicalCpu, instruction: RefusedInstruction, state: CpuState) -> bool:
    _put_halves(state, cpu.read_time_stamp())
    if instruction.operation is Operation.RDTSCP:
        state.general[RCX] = cpu.number  # TSC_AUX, in which Linux has it (asm/segment.h)
    return True


def _read_random(cpu: LogicalCpu, instruction: RefusedInstruction, state: CpuState) -> bool:
    """There always is one: CF is set, the other flags are cleared (APM volume 3, RDRAND)."""
    mask = (1 << instruction.width) - 1
    value = cpu.read_random() & mask
    # A 32-bit result clears the upper half of its register, a 16-bit one leaves the rest.
    if instruction.width < 32:
        value |= state.general[instruction.general] & ~mask
    state.general[instruction.general] = value
    state.flags = state.flags & ~STATUS_FLAGS | _CARRY
    return True


def _read_control(cpu: LogicalCpu, instruction: RefusedInstruction, state: CpuState) -> bool:
    value = cpu.read_control(instruction.special)
    if value is None:
        return False
    state.general[instruction.general] = value
    return True


def _write_control(cpu: LogicalCpu, instruction: RefusedInstruction, state: CpuState) -> bool:
    return cpu.write_control(instruction.special, state.general[instruction.general])


def _read_debug(cpu: LogicalCpu, instruction: RefusedInstruction, state: CpuState) -> bool:
    state.general[instruction.general] = cpu.read_debug(instruction.special)
    return True


def _write_debug(cpu: LogicalCpu, instruction: RefusedInstruction, state: CpuState) -> bool:
    cpu.write_debug(instruction.special, state.general[instruction.general])
    return True


def _read_protection_keys(_: LogicalCpu, __: RefusedInstruction, state: CpuState) -> bool:
    _put_halves(state, 0)
    return True


def _swap_gs(cpu: LogicalCpu, _: RefusedInstruction, state: CpuState) -> bool:
    kept = cpu.read_msr(_MSR_KERNEL_GS_BASE)
    cpu.write_msr(_MSR_KERNEL_GS_BASE, state.gs_base)
    state.gs_base = kept
    return True


def _read_base(_: LogicalCpu, instruction: RefusedInstruction, state: CpuState) -> bool:
    of_gs = instruction.operation is Operation.RDGSBASE
    state.general[instruction.general] = state.gs_base if of_gs else state.fs_base
    return True


def _write_base(_: LogicalCpu, instruction: RefusedInstruction, state: CpuState) -> bool:
    value = state.general[instruction.general]
    if instruction.operation is Operation.WRGSBASE:
        state.gs_base = value
    else:
        state.fs_base = value
    return True


def _call_tdx_module(cpu: LogicalCpu, _: RefusedInstruction, state: CpuState) -> bool:
    """Success: RAX is the completion status, CF says that there is none (VMfailInvalid)."""
    if cpu.seam:
        cpu.seamcalls += 1
        state.general[RAX] = _TDX_SUCCESS
        state.flags &= ~_CARRY
    return cpu.seam


def _adjust_rmp(cpu: LogicalCpu, _: RefusedInstruction, state: CpuState) -> bool:
    """A guest at VMPL 0 may adjust what others may do, so success says that there is no SVSM."""
    if cpu.is_snp_guest:
        state.general[RAX] = _RMP_SUCCESS
        state.flags &= ~STATUS_FLAGS
    return cpu.is_snp_guest


def _skip(_: LogicalCpu, __: RefusedInstruction, ___: CpuState) -> bool:
    """Nothing that is emulated depends on it."""
    return True


def _put_halves(state: CpuState, value: int) -> None:
    """EDX:EAX, which clears the upper halves."""
    state.general[RAX], state.general[RDX] = value & MASK_32, value >> 32


_ACTIONS: Final[dict[Operation, Callable[[LogicalCpu, RefusedInstruction, CpuState], bool]]] = {
    Operation.RDMSR: _read_msr,
    Operation.WRMSR: _write_msr,
    Operation.RDRAND: _read_random,
    Operation.RDSEED: _read_random,
    Operation.RDTSC: _read_time_stamp,
    Operation.RDTSCP: _read_time_stamp,
    Operation.MOV_FROM_CR: _read_control,
    Operation.MOV_TO_CR: _write_control,
    Operation.MOV_FROM_DR: _read_debug,
    Operation.MOV_TO_DR: _write_debug,
    Operation.RDFSBASE: _read_base,
    Operation.RDGSBASE: _read_base,
    Operation.WRFSBASE: _write_base,
    Operation.WRGSBASE: _write_base,
    Operation.RMPADJUST: _adjust_rmp,
    Operation.SEAMCALL: _call_tdx_module,
    Operation.SWAPGS: _swap_gs,
    Operation.RDPKRU: _read_protection_keys,
    Operation.CLTS: _skip,
    Operation.INVLPG: _skip,
    Operation.LGDT: _skip,
    Operation.LIDT: _skip,
    Operation.LLDT: _skip,
    Operation.LTR: _skip,
    Operation.MONITOR: _skip,
    Operation.MOV_TO_SS: _skip,
    Operation.STGI: _skip,
    Operation.VMXOFF: _skip,
    Operation.WRPKRU: _skip,
    Operation.XSETBV: _skip,
}
