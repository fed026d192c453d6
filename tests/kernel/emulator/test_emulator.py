# SPDX-License-Identifier: GPL-2.0-or-later
"""Small pieces of code, run to every kind of end."""

from __future__ import annotations

import time

import numpy as np
import pytest

from staleline.errors import KernelImageError
from staleline.evidence.registers import CpuidTable
from staleline.kernel.addresses import KERNEL_MAP
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.emulator import Emulator
from staleline.kernel.emulator.execution.end import End, EndKind, RunLimits
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.image.image import KernelImage, Segment
from staleline.kernel.image.symbols import SymbolTable

PHYSICAL = 0x100_0000
TEXT = KERNEL_MAP + PHYSICAL
RESULT = TEXT + 0x1000
WARNING = TEXT + 0x800
MAY_FAULT = TEXT + 2
FIXUP = TEXT + 0x20


class NoNames:
    def name(self, index: int) -> str:
        raise IndexError(index)

    def find(self, name: str) -> list[int]:
        return []


def no_symbols() -> SymbolTable:
    return SymbolTable(np.zeros(0, np.uint64), NoNames())


class Machine:
    """One piece of code at `TEXT`, and a CPU to run it."""

    def __init__(self, code: str, limits: RunLimits | None = None) -> None:
        text = bytearray(0x2000)
        text[: len(bytes.fromhex(code))] = bytes.fromhex(code)
        text[0x800:0x803] = b"\x0f\x0b\xc3"
        segment = Segment(TEXT, PHYSICAL, memoryview(bytes(text)), len(text), executable=True)
        image = KernelImage("test", None, None, None, (segment,), {}, no_symbols())
        self.memory = MachineMemory(image)
        self.emulator = Emulator(
            self.memory, hex, lambda: {WARNING}, lambda: {MAY_FAULT: FIXUP}, limits or RunLimits()
        )
        table = CpuidTable({(0, 0): (1, 2, 3, 4), (1, 0): (5, 6, 7, 8)})
        self.cpu = LogicalCpu(0, table, {0x10: 0x1122_3344_5566_7788})

    def run(self, *arguments: int, at: int = TEXT) -> End:
        return self.emulator.run(at, arguments, cpu=self.cpu)

    def result(self) -> int:
        return self.memory.read_int(RESULT, 8)


STORE_RAX = "488905" + (0x1000 - 0x40).to_bytes(4, "little").hex()


def storing_rax(code: str) -> str:
    """`code`, then the value of RAX to `RESULT`, then a return."""
    padded = code + "90" * (0x39 - len(code) // 2)
    return padded + STORE_RAX + "c3"


def test_a_function_returns_what_it_computes():
    machine = Machine(storing_rax("488d0437"))  # lea rax, [rdi + rsi]
    assert machine.run(40, 2).kind is EndKind.RETURNED
    assert machine.result() == 42


def test_cpuid_is_answered_even_as_the_first_instruction():
    machine = Machine("0fa2c3")
    assert machine.run().kind is EndKind.RETURNED
    assert machine.cpu.leaves_read == {0}
    assert machine.cpu.traps == 1


def test_cpuid_never_answers_as_the_emulator_itself_would():
    code = "31c931c00fa289d8"  # xor ecx, ecx; xor eax, eax; cpuid; mov eax, ebx
    machine = Machine(storing_rax(code))
    machine.run()
    assert machine.result() == 2


@pytest.mark.parametrize("times", [1, 2, 3, 20])
def test_any_number_of_refused_instructions_in_a_row(times):
    """Unicorn would make the second #GP a double fault and the third a triple fault."""
    read_msr = "b910000000" + "0f32" * times  # mov ecx, 0x10; rdmsr
    machine = Machine(storing_rax(read_msr + "48c1e2204809d0"))  # shl rdx, 32; or rax, rdx
    assert machine.run().kind is EndKind.RETURNED
    assert machine.result() == 0x1122_3344_5566_7788
    assert machine.cpu.msrs_read == {0x10}
    assert machine.cpu.traps == times


SEAMCALL = "660f01cf"


def test_a_seamcall_that_the_tdx_module_answers():
    """RAX is the status, CF that nobody answered (linux 7.3.4 virt/vmx/tdx/tdxcall.S:102)."""
    # stc; lea eax, [5]; seamcall; sbb rdx, rdx; or rax, rdx
    machine = Machine(storing_rax("f9" + "8d042505000000" + SEAMCALL + "4819d2" + "4809d0"))
    machine.cpu.seam = True
    assert machine.run().kind is EndKind.RETURNED
    assert machine.result() == 0
    assert machine.cpu.seamcalls == 1


def test_a_seamcall_without_a_tdx_module_goes_on_as_the_exception_table_says():
    """With the number of #UD in RAX (ex_handler_fault(), arch/x86/mm/extable.c, 7.3.4)."""
    code = "9090" + SEAMCALL + "0f0b" + "90" * (0x20 - 8)  # the ud2 behind it is not reached
    machine = Machine(storing_rax(code))
    assert machine.run().kind is EndKind.RETURNED
    assert machine.result() == 6
    assert machine.cpu.seamcalls == 0


def test_a_seamcall_without_a_tdx_module_that_nothing_catches():
    end = Machine("90" + SEAMCALL).run()
    assert end.kind is EndKind.FAILED
    assert "unexpected seamcall (bytes 660f01cf" in end.detail


def test_an_unlisted_msr_reads_as_zero_and_keeps_what_is_written():
    write_then_read = "b911000000b807000000ba010000000f3031c031d20f32"
    machine = Machine(storing_rax(write_then_read))
    machine.run()
    assert machine.result() == 7


def test_registers_survive_a_refused_instruction():
    # mov r15, rdi; rdtsc; wbinvd; mov rax, r15
    machine = Machine(storing_rax("4989ff0f310f094c89f8"))
    machine.run(0x1234_5678_9ABC_DEF0)
    assert machine.result() == 0x1234_5678_9ABC_DEF0
    assert machine.cpu.flushes == [TEXT + 5]


def test_every_wbinvd_is_seen_and_the_caller_is_asked_first():
    machine = Machine("0f090f09c3")
    order: list[int] = []
    machine.emulator.run(
        TEXT, (), cpu=machine.cpu, at_flush=lambda: order.append(len(machine.cpu.flushes))
    )
    assert machine.cpu.flushes == [TEXT, TEXT + 2]
    assert order == [0, 1]


def test_control_registers_are_the_machines_own():
    # mov cr3, rdi; mov rax, cr3
    machine = Machine(storing_rax("0f22df0f20d8"))
    machine.run(0x7000)
    assert machine.result() == 0x7000


def test_time_passes():
    """Delay loops end: rdtsc; mov esi, eax; rdtsc; sub eax, esi."""
    machine = Machine(storing_rax("0f3189c60f3129f0"))
    machine.run()
    assert machine.result() > 0


def test_loading_gs_clears_its_base():
    """So does ``load_segments()``: mov eax, 0x18; mov gs, eax; mov rax, gs:[0] faults."""
    machine = Machine("b8180000008ee865488b042500000000c3")
    machine.cpu.gs_base = TEXT
    end = machine.run()
    assert end.kind is EndKind.FAILED
    assert end.detail == f"read of unmapped address 0x0 at {TEXT + 7:#x}"


def test_halting_is_an_end_of_its_own():
    assert Machine("90f4").run() == End(EndKind.HALTED, TEXT + 1)


def test_the_next_kernel_is_entered_at_its_physical_address():
    machine = Machine("ffe7")  # jmp rdi
    end = machine.run(machine.emulator.next_kernel_entry)
    assert end.kind is EndKind.HANDED_OVER


def test_beside_the_next_kernels_entry_is_nothing():
    machine = Machine("ffe7")
    end = machine.run(machine.emulator.next_kernel_entry - 1)
    assert end.kind is EndKind.FAILED
    assert "int3" in end.detail


def test_behind_a_warning_the_code_goes_on():
    machine = Machine("c3")
    assert machine.run(at=WARNING).kind is EndKind.RETURNED


@pytest.mark.parametrize(
    ("code", "detail", "address"),
    [
        ("0f0b", "unexpected ud2 (bytes 0f0b00000000)", TEXT),
        ("cc", "int3", TEXT),
        ("31c9f7f1", "divide error", TEXT + 2),
        ("0f33", "fault or unmodelled instruction (bytes 0f3300000000)", TEXT),
        ("0f08", "fault or unmodelled instruction (bytes 0f0800000000)", TEXT),
        ("31c0ffe0", "jump to unmapped address 0x0", 0),
        ("31c0488900", "write to unmapped address 0x0", TEXT + 2),
        ("31c0488b00", "read of unmapped address 0x0", TEXT + 2),
        ("66ba6000ec", "read from I/O port 0x60", TEXT + 4),
        ("66ba6400ee", "write to I/O port 0x64", TEXT + 4),
        ("ebfe", "the time or instruction budget ran out", TEXT),
    ],
)
def test_what_cannot_go_on_says_why_and_where(code, detail, address):
    end = Machine(code, RunLimits(instructions=10_000)).run()
    text = f"{detail} at {address:#x}"
    endless, unmodelled = "budget" in detail, "unmodelled" in detail or "I/O port" in detail
    assert end == End(EndKind.FAILED, address, text, endless=endless, unmodelled=unmodelled)


#: again: inc rax; jmp again
COUNTS_FOR_EVER = "48ffc0ebfb"


def test_time_limits_a_run_as_well():
    end = Machine(COUNTS_FOR_EVER, RunLimits(instructions=10**12, seconds=0.05)).run()
    assert "budget ran out" in end.detail


def test_instructions_limit_what_never_is_as_it_was():
    end = Machine(COUNTS_FOR_EVER, RunLimits(instructions=10_000, seconds=10**6)).run()
    assert "budget ran out" in end.detail


@pytest.mark.parametrize(
    "code",
    [
        "ebfe",  # jmp itself
        "6a0758ebfb",  # again: push 7; pop rax; jmp again
        # again: mov ecx, 5; inner: dec ecx; jne inner; inc byte [rip]; dec byte [rip]; jmp again
        "b905000000ffc975fcfe05f10f0000fe0deb0f0000ebe9",
        "0fa2ebfc",  # again: cpuid; jmp again
    ],
)
def test_what_comes_back_to_where_it_was_has_no_end_whatever_its_limits(code):
    machine = Machine(code, RunLimits(instructions=10**12, seconds=10**6))
    assert "budget ran out" in machine.run().detail
    assert machine.emulator.exhausted_runs == 1


@pytest.mark.parametrize(
    "code",
    [
        # mov edi, 2000000; again: dec edi; jne again
        "bf80841e00ffcf75fc",
        # again: inc dword [rip + ...]; cmp dword [rip + ...], 500000; jne again
        "ff05fa0f0000813df00f000020a1070075ee",
        # again: rdtsc; cmp eax, 1000000000; jb again
        "0f313d00ca9a3b72f7",
    ],
)
def test_a_loop_that_ends_after_long_does_end(code):
    """By what it counts in a register, in memory, or the time."""
    machine = Machine(code + "c3", RunLimits(instructions=10**9, seconds=60.0))
    assert machine.run().kind is EndKind.RETURNED


def test_a_run_goes_on_where_its_instructions_begin_to_be_counted():
    # mov esi, 60000; again: xor eax, eax; cpuid; inc rdi; dec esi; jne again; mov rax, rdi
    counting = "be60ea000031c00fa248ffc7ffce75f54889f8"
    machine = Machine(storing_rax(counting), RunLimits(instructions=10**9, seconds=60.0))
    started = time.monotonic()
    assert machine.run(0).kind is EndKind.RETURNED
    assert time.monotonic() - started > 0.1  # else nothing was counted
    assert machine.result() == machine.cpu.traps == 60_000


def test_a_run_that_had_no_end_leaves_nothing_behind():
    # cmp edi, 7; jne itself; mov eax, edi
    machine = Machine(storing_rax("83ff0775fe89f8"), RunLimits(instructions=10_000))
    for _ in range(2):
        assert "budget ran out" in machine.run(8).detail
        assert machine.run(7).kind is EndKind.RETURNED
        assert machine.result() == 7
    assert machine.emulator.exhausted_runs == 2


def test_behind_a_flush_a_run_may_take_as_much_as_before_it():
    # wbinvd; again: dec edi; jne again
    machine = Machine("0f09ffcf75fcc3", RunLimits(instructions=1_000))
    assert machine.run(1).kind is EndKind.RETURNED
    assert machine.run(200_000).endless
    with machine.emulator.within(RunLimits(instructions=10**9, seconds=60.0)):
        assert machine.run(200_000).kind is EndKind.RETURNED


def test_nothing_is_on_the_pci_bus():
    # mov dx, 0xcf8; out dx, eax; mov dx, 0xcfc; in eax, dx
    machine = Machine(storing_rax("66baf80cef66bafc0ced"))
    assert machine.run().kind is EndKind.RETURNED
    assert machine.result() == 0xFFFF_FFFF


def test_a_failure_leaves_nothing_behind():
    machine = Machine(storing_rax("0fb7c7"))  # movzx eax, di
    assert machine.run(at=0xDEAD000).kind is EndKind.FAILED
    assert machine.run(7).kind is EndKind.RETURNED
    assert machine.result() == 7


def test_memory_goes_back_to_the_image():
    machine = Machine(storing_rax("4889f8"))
    machine.run(99)
    machine.memory.write(machine.memory.direct(0x5000), b"left")
    machine.memory.reset()
    assert machine.result() == 0
    assert machine.memory.read(0x5000, 4) == bytes(4)


def test_ram_is_the_same_at_both_its_addresses():
    memory = Machine("c3").memory
    memory.write(0x5000, b"stale")
    assert memory.read(memory.direct(0x5000), 5) == b"stale"


@pytest.mark.parametrize("address", [0, 0x0FFF, 0x100_0000, TEXT - 1, TEXT + 0x2000])
def test_memory_that_is_not_there(address):
    with pytest.raises(DerivationError, match="outside the machine's memory"):
        Machine("c3").memory.read(address, 1)


def test_segments_that_are_too_far_apart():
    """A damaged file must not take the memory of the host."""
    segments = tuple(
        Segment(TEXT, physical, memoryview(b"\xc3"), 1, executable=True)
        for physical in (PHYSICAL, PHYSICAL + (1 << 40))
    )
    image = KernelImage("far", None, None, None, segments, {}, no_symbols())
    with pytest.raises(KernelImageError, match=r"far: segments span 0x10000001000 bytes"):
        MachineMemory(image)


@pytest.mark.parametrize("slow", range(1, 7))
def test_each_instruction_of_a_slow_run_is_told_once(slow):
    """A run that takes long goes on counted; what is told of it must not depend on the time."""
    machine = Machine("b903000000" + "ffc9" + "75fc" + "c3")  # mov ecx, 3; dec ecx; jnz; ret
    told = []

    def tell(address: int, _: int) -> None:
        told.append(address - TEXT)
        if len(told) == slow:
            time.sleep(0.35)

    with machine.emulator.stepped(tell):
        assert machine.run().kind is EndKind.RETURNED
    assert [address for address in told if 0 <= address < 0x10] == [0, *[5, 7] * 3, 9]
