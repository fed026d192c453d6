# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole way from a kexec to the rest of every CPU: real kernels with one thing planted in it.

Each of these mutants hands lines over, or may; none may be told apart from the kernel that it was
made of by a confident answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from staleline.kernel.boot.decision import Decision, RawMachine
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.at_sites import search_sites
from staleline.kernel.influence.first_way import FirstWay
from staleline.kernel.influence.rows import machines
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import Site
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import Instruction, instructions, patched
from tests.kernel.places import address_of, function_at
from tests.kernel.plant import (
    CAVE,
    executes_wbinvd,
    global_bit,
    on_condition,
    planted,
    planted_call,
    relative,
    zeroes_global,
)

ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, True)
#: The oldest and the newest: each mutant is one reading or more.
SERIES = ["5.10", "7"]
RETURN = b"\xc3"


@pytest.fixture(scope="module", params=SERIES)
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


@pytest.fixture(scope="module")
def newest(real_kernels) -> KernelImage:
    return real_kernels["7"].image


def decide(image: KernelImage) -> Decision:
    return KernelReader(image).decide(ROME)


def calls(image: KernelImage, function: str, callee: str) -> Iterator[Instruction]:
    target = hex(address_of(image, callee))
    for one in instructions(image, function):
        if (one.mnemonic, one.operands) == ("call", target):
            yield one


def without(image: KernelImage, instruction: Instruction) -> KernelImage:
    return patched(image, instruction.address, b"\x90" * len(instruction.code))


def calling(image: KernelImage, call: Instruction, target: int) -> KernelImage:
    return patched(image, call.address, b"\xe8" + relative(call.address + 5, target))


# -- kernel_kexec() shuts the machine down before it jumps ------------------------------------


def test_a_kexec_that_does_not_shut_the_machine_down(image):
    """kernel/kexec_core.c kernel_kexec(), 5.10 to 7.3: machine_shutdown(), machine_kexec()."""
    (call,) = calls(image, "kernel_kexec", "machine_shutdown")
    decision = decide(without(image, call))
    assert decision.stop_this_cpu.unknown == (
        "kernel_kexec() gets to machine_kexec() without machine_shutdown()"
    )
    assert decision.stops is None


def test_a_kexec_that_calls_something_else(image):
    (call,) = calls(image, "kernel_kexec", "machine_shutdown")
    mutant = calling(image, call, address_of(image, "cpu_hotplug_enable"))
    assert "without machine_shutdown()" in (decide(mutant).stop_this_cpu.unknown or "")


def test_a_kexec_that_shuts_down_on_a_condition(image):
    (call,) = calls(image, "kernel_kexec", "machine_shutdown")
    cave, shut_down = address_of(image, CAVE), address_of(image, "machine_shutdown")
    question = global_bit(address_of(image, "panic_timeout"), 0)
    guard = on_condition(question, lambda at: b"\xe9" + relative(at + 5, shut_down))
    mutant = calling(patched(image, cave, guard(cave) + RETURN), call, cave)
    assert "without machine_shutdown()" in (decide(mutant).stop_this_cpu.unknown or "")


def test_a_shutdown_that_calls_nobody_who_stops_the_others(image):
    """arch/x86/kernel/reboot.c native_machine_shutdown(): smp_ops.stop_other_cpus(1)."""
    code = list(instructions(image, "native_machine_shutdown"))
    one = next(at for at, each in enumerate(code) if each.code == b"\xbf\x01\0\0\0")
    call = next(each for each in code[one:] if each.mnemonic == "call")
    decision = decide(without(image, call))
    assert decision.stop_this_cpu.unknown == "machine_shutdown() interrupts no other CPU"
    assert decision.stops is False


def test_machine_ops_that_begin_with_another_shutdown(image):
    slot = address_of(image, "machine_ops") + 0x18
    other = address_of(image, "cpu_hotplug_enable").to_bytes(8, "little")
    assert decide(patched(image, slot, other)).stop_this_cpu.flushes is None


def test_somebody_else_jumps(image):
    """kernel_restart_prepare() is called before machine_shutdown() (kernel/reboot.c)."""
    start = address_of(image, "kernel_restart_prepare")
    jump = b"\xe9" + relative(start + 5, address_of(image, "machine_kexec"))
    reason = "kernel_restart_prepare() leads to machine_kexec() as well"
    decision = decide(patched(image, start, jump))
    assert reason in (decision.stop_this_cpu.unknown or "")
    assert reason in (decision.crash_nmi_callback.unknown or "")


def test_cpus_that_are_started_again_before_the_jump(newest):
    """kmsg_dump_desc() alone is called in between (kernel/kexec_core.c, 7.3.4)."""
    (call,) = calls(newest, "kernel_kexec", "kmsg_dump_desc")
    decision = decide(calling(newest, call, address_of(newest, "thaw_secondary_cpus")))
    assert decision.stop_this_cpu.unknown == (
        "kernel_kexec() calls thaw_secondary_cpus() between machine_shutdown() and machine_kexec()"
    )


def test_a_crash_that_does_not_shut_the_machine_down(image):
    """__crash_kexec() of kernel/kexec_core.c, or crash_core.c."""
    (call,) = calls(image, "__crash_kexec", "machine_crash_shutdown")
    decision = decide(without(image, call))
    assert decision.crash_nmi_callback.unknown == (
        "__crash_kexec() gets to machine_kexec() without machine_crash_shutdown()"
    )
    assert decision.stop_this_cpu.flushes is True


# -- an NMI for those that are slow -----------------------------------------------------------


def action_of(image: KernelImage) -> int:
    (name,) = (n for n, _ in image.symbols.listed() if n.startswith("smp_stop_nmi_callback_na"))
    return address_of(image, name)


def handled_at_once(image: KernelImage) -> tuple[KernelImage, bytes]:
    """An NMI handler that says NMI_HANDLED, and its address."""
    cave = address_of(image, CAVE)
    mutant = patched(image, cave, b"\xb8\x01\0\0\0\xc3")
    return mutant, cave.to_bytes(8, "little")


def test_an_nmi_action_with_another_handler(image):
    """struct nmiaction: a list's two pointers, then the handler (asm/nmi.h, 5.10 to 7.3)."""
    action = action_of(image)
    callback = address_of(image, "smp_stop_nmi_callback").to_bytes(8, "little")
    assert image.read(action + 16, 8) == callback
    mutant, handler = handled_at_once(image)
    reason = decide(patched(mutant, action + 16, handler)).stop_this_cpu.unknown
    assert "a CPU that has to be told by an NMI does not stop alike" in (reason or "")


@pytest.mark.parametrize("series", ["6.18", "7"])
def test_an_emergency_handler_that_takes_all_nmis(real_kernels, series):
    """struct nmi_desc has one behind its lock since 6.17 (arch/x86/kernel/nmi.c)."""
    image = real_kernels[series].image
    mutant, handler = handled_at_once(image)
    mutant = patched(mutant, address_of(image, "nmi_desc") + 8, handler)
    reason = decide(mutant).stop_this_cpu.unknown
    assert "a CPU that has to be told by an NMI does not stop alike" in (reason or "")


# -- who else writes to the tables ------------------------------------------------------------


def stored_at_once(slot: int, value: int) -> Callable[[int], bytes]:
    """``movq $value, slot(%rip)``"""
    constant = (value & 0xFFFF_FFFF).to_bytes(4, "little")
    return lambda at: b"\x48\xc7\x05" + relative(at + 11, slot) + constant


def stored_through_rip(slot: int, _: int) -> Callable[[int], bytes]:
    return lambda at: b"\x48\x89\x05" + relative(at + 7, slot)


def stored_absolute(slot: int, _: int) -> Callable[[int], bytes]:
    """``mov %rax, slot``"""
    return lambda _: b"\x48\x89\x04\x25" + (slot & 0xFFFF_FFFF).to_bytes(4, "little")


def stored_through_pointer(slot: int, _: int) -> Callable[[int], bytes]:
    """``lea slot-16(%rip), %rcx; mov %rax, 16(%rcx)``"""
    return lambda at: b"\x48\x8d\x0d" + relative(at + 7, slot - 16) + b"\x48\x89\x41\x10"


def stored_beside(slot: int, _: int) -> Callable[[int], bytes]:
    """``movups %xmm0, slot-8(%rip)``"""
    return lambda at: b"\x0f\x11\x05" + relative(at + 7, slot - 8)


def moved_on(slot: int, _: int) -> Callable[[int], bytes]:
    """``lea table(%rip), %rcx; mov %rcx, %rdx; add $24, %rdx; mov %rax, (%rdx)``"""
    code = b"\x48\x89\xca\x48\x83\xc2\x18\x48\x89\x02"
    return lambda at: b"\x48\x8d\x0d" + relative(at + 7, slot - 0x18) + code


def indexed(slot: int, _: int) -> Callable[[int], bytes]:
    """``xor %ecx, %ecx; mov %rax, slot(%rcx, %rcx, 8)``"""
    address = (slot & 0xFFFF_FFFF).to_bytes(4, "little")
    return lambda _: b"\x31\xc9\x48\x89\x84\xc9" + address


def stored_widely(slot: int, _: int) -> Callable[[int], bytes]:
    """``vmovdqu %ymm0, slot-24(%rip)``"""
    return lambda at: b"\xc5\xfe\x7f\x05" + relative(at + 8, slot - 24)


def pushed(slot: int, _: int) -> Callable[[int], bytes]:
    """``push $slot; pop %rcx; mov %rax, (%rcx)``"""
    return lambda _: b"\x68" + (slot & 0xFFFF_FFFF).to_bytes(4, "little") + b"\x59\x48\x89\x01"


def copied_from_before(slot: int, _: int) -> Callable[[int], bytes]:
    """``lea table-8(%rip), %rdi; rep movsq``"""
    return lambda at: b"\x48\x8d\x3d" + relative(at + 7, slot - 0x20) + b"\xf3\x48\xa5"


def given(slot: int, function: int) -> Callable[[int], bytes]:
    """``lea table(%rip), %rax; mov %rax, %rsi; call function``"""

    def code(at: int) -> bytes:
        lea = b"\x48\x8d\x05" + relative(at + 7, slot - 0x18) + b"\x48\x89\xc6"
        return lea + b"\xe8" + relative(at + 15, function)

    return code


def copied(slot: int, _: int) -> Callable[[int], bytes]:
    """``mov $table, %rdi; rep movsq``"""
    table = ((slot - 0x18) & 0xFFFF_FFFF).to_bytes(4, "little")
    return lambda _: b"\x48\xc7\xc7" + table + b"\xf3\x48\xa5"


def exchanged(slot: int, _: int) -> Callable[[int], bytes]:
    """``lea table(%rip), %rax; lock xchg %rax, (%rsp)``"""
    return lambda at: b"\x48\x8d\x05" + relative(at + 7, slot - 0x18) + b"\xf0\x48\x87\x04\x24"


STORES = [
    *(stored_at_once, stored_through_rip, stored_absolute),
    *(stored_through_pointer, stored_beside, copied),
    *(moved_on, indexed, stored_widely, pushed, copied_from_before, given, exchanged),
]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("table", ["machine_ops", "smp_ops"])
def test_a_function_that_nobody_knows_writes_to_a_table(newest, store, table):
    image = newest
    cave, slot = address_of(image, CAVE), address_of(image, table) + 0x18
    code = store(slot, address_of(image, "cpu_hotplug_enable"))(cave)
    reason = decide(patched(image, cave, code + RETURN)).stop_this_cpu.unknown
    member = {"machine_ops": "shutdown", "smp_ops": "stop_other_cpus"}[table]
    sentence = f"{CAVE}() may write to {table}.{member}, and when it does is not known"
    assert sentence in (reason or "").split("; ")


@pytest.mark.parametrize("table", ["machine_ops", "smp_ops"])
def test_a_variable_that_points_into_a_table(image, table):
    place = address_of(image, "panic_timeout") & ~7
    pointer = address_of(image, table).to_bytes(8, "little")
    reason = decide(patched(image, place, pointer)).stop_this_cpu.unknown
    assert "points into a table of functions, and who writes there by it is not" in (reason or "")


def test_a_function_that_looks_at_a_table_writes_nothing(image):
    cave, slot = address_of(image, CAVE), address_of(image, "smp_ops") + 0x18
    mutant = patched(image, cave, b"\x48\x8b\x05" + relative(cave + 7, slot) + RETURN)
    assert decide(mutant) == decide(image)


# -- the wait for the others ------------------------------------------------------------------

GIVES_UP = "machine_shutdown() gives up waiting for the other CPUs"


def test_a_shutdown_that_does_not_ask_to_wait(image):
    """smp_ops.stop_other_cpus(0): 10 ms after the NMI it goes on (smp.c, 5.10 to 7.3)."""
    code = list(instructions(image, "native_machine_shutdown"))
    one = next(each for each in code if each.code == b"\xbf\x01\0\0\0")
    decision = decide(patched(image, one.address, b"\xbf\0\0\0\0"))
    assert GIVES_UP in (decision.stop_this_cpu.unknown or "")


def loops_end(image: KernelImage) -> tuple[Instruction, int]:
    """Where 10 ms are counted from, and where the CPU goes on when it has waited."""
    code = list(instructions(image, "native_stop_other_cpus"))
    begin = next(one for one in code if one.mnemonic == "mov" and one.operands.endswith("0x2710"))
    (disables,) = calls(image, "native_stop_other_cpus", "disable_local_APIC")
    return begin, disables.address


def test_a_shutdown_whose_second_wait_is_gone(image):
    begin, end = loops_end(image)
    jump = b"\xe9" + relative(begin.address + 5, end)
    decision = decide(patched(image, begin.address, jump))
    assert GIVES_UP in (decision.stop_this_cpu.unknown or "")


@pytest.mark.parametrize("looks", [12, 0x40])
def test_a_shutdown_that_looks_some_times(image, looks):
    """The first wait is that short, and the second is gone."""
    begin, end = loops_end(image)
    second = next(
        one
        for one in instructions(image, "native_stop_other_cpus")
        if one.mnemonic == "mov" and one.operands.split(", ")[-1] in {"0xf4240", "0xf4241"}
    )
    mutant = patched(image, begin.address, b"\xe9" + relative(begin.address + 5, end))
    constant = second.code[:-4] + looks.to_bytes(4, "little")
    decision = decide(patched(mutant, second.address, constant))
    assert decision.stop_this_cpu.flushes is None


def test_a_short_first_wait_before_one_without_end(image):
    """Then others get the NMI earlier, which is waited for."""
    second = next(
        one
        for one in instructions(image, "native_stop_other_cpus")
        if one.mnemonic == "mov" and one.operands.split(", ")[-1] in {"0xf4240", "0xf4241"}
    )
    constant = second.code[:-4] + (0x20).to_bytes(4, "little")
    assert decide(patched(image, second.address, constant)) == decide(image)


@pytest.mark.parametrize("series", ["6.12", "7"])
def test_a_wait_for_the_first_64_cpus(real_kernels, series):
    """_find_first_bit(cpus_stop_mask, 64) instead of nr_cpu_ids."""
    image = real_kernels[series].image
    cave, mutant = address_of(image, CAVE), image
    for call in calls(image, "native_stop_other_cpus", "_find_first_bit"):
        mutant = calling(mutant, call, cave)
    limits = b"\xbe\x40\0\0\0\xbb\x40\0\0\0"  # mov $64, %esi; mov $64, %ebx
    find = address_of(image, "_find_first_bit")
    mutant = patched(mutant, cave, limits + b"\xe9" + relative(cave + 15, find))
    assert GIVES_UP in (decide(mutant).stop_this_cpu.unknown or "")


@pytest.mark.parametrize("series", ["6.12", "7"])
def test_a_cpu_that_reports_all_others_as_stopped(real_kernels, series):
    image = real_kernels[series].image
    mask = address_of(image, "cpus_stop_mask")
    code = list(instructions(image, "stop_this_cpu"))
    report = next(one for one in code if one.mnemonic == "lock btr")
    clears = b"\x83\x25" + relative(report.address + 7, mask) + b"\0"  # andl $0, mask
    clears += b"\x90" * (len(report.code) - len(clears))
    reason = decide(patched(image, report.address, clears)).stop_this_cpu.unknown
    assert reason == "it reports others stopped too: 0x0 of 0x6 are left to stop"


def leaves_the_wait(image: KernelImage) -> Callable[[int], bytes]:
    """From a function that a wait calls: return to where the CPU goes on when it has waited."""
    _, end = loops_end(image)
    return lambda at: b"\x48\x83\xc4\x10\xe9" + relative(at + 9, end)


@pytest.mark.parametrize("function", ["__const_udelay"])
def test_a_guard_that_ends_the_wait(image, function):
    variable = address_of(image, "panic_timeout")
    mutant = planted(image, function, global_bit(variable, 0), leaves_the_wait(image))
    reason = decide(mutant).stop_this_cpu.unknown
    assert reason is not None
    assert "panic_timeout" in reason


# -- between the stop and the jump ------------------------------------------------------------


def forgets(image: KernelImage) -> Callable[[int], bytes]:
    """The jumping CPU's guard forgets that its caches matter."""
    flag = image.symbols.address("cache_state_incoherent")
    if flag is None:
        return zeroes_global(address_of(image, "sme_me_mask"))
    return lambda at: b"\x65\xc6\x05" + relative(at + 8, flag) + b"\0"


BETWEEN = ["lapic_shutdown", "hpet_disable", "disable_local_APIC", "native_machine_shutdown"]


@pytest.mark.parametrize("function", BETWEEN)
def test_something_forgets_on_the_way_that_a_flush_is_needed(image, function):
    mutant = planted(image, function, lambda _: b"\x48\x83\xfc\x00", forgets(image))
    assert decide(mutant).relocate_kernel.flushes is not True


@pytest.mark.parametrize("function", BETWEEN)
def test_something_forgets_it_on_a_condition(image, function):
    variable = address_of(image, "panic_timeout")
    mutant = planted(image, function, global_bit(variable, 7), forgets(image))
    assert decide(mutant).relocate_kernel.flushes is not True


# -- where the kernel was put -----------------------------------------------------------------

ITS_ADDRESS = {
    "lea": b"\x48\x8d\x05\0\0\0\0",  # lea 0(%rip), %rax
    "mov": b"\x48\xc7\xc0\x00\x10\x00\x81",  # mov $0xffffffff81001000, %rax
}
ASKED = {
    "a bit": b"\xa9\x00\x00\x20\x00",  # test $0x200000, %eax
    "a bit of it shifted": b"\x48\xc1\xe8\x15\xa8\x01",  # shr $21, %rax; test $1, %al
    # What does not fit 32 bits, gcc has in a register: movabs $0x200000, %rcx; test %rcx, %rax.
    "a bit by a mask in a register": b"\x48\xb9\0\0\x20\0\0\0\0\0\x48\x85\xc8",
    "bits left in a mask": b"\xb9\0\0\x20\0\x48\x21\xc1",  # mov $0x200000, %ecx; and %rax, %rcx
    # mov $21, %ecx; shr %cl, %rax; test $1, %al
    "a bit shifted by a register": b"\xb9\x15\0\0\0\x48\xd3\xe8\xa8\x01",
    # shr $21, %rax; mov $1, %ecx; and %rax, %rcx
    "a number left in a mask": b"\x48\xc1\xe8\x15\xb9\x01\0\0\0\x48\x21\xc1",
    "bits behind the stack": b"\x50\x59\xf7\xc1\0\0\x20\0",  # push %rax; pop %rcx
    "how many bits": b"\xf3\x48\x0f\xb8\xc0\xa8\x01",  # popcnt %rax, %rax; test $1, %al
    "a multiple": b"\x48\x69\xc0\x03\0\0\0\xa9\0\0\x20\0",  # imul $3, %rax, %rax; test
    "the distance from where it is linked": b"\x48\x2d\0\0\0\x81",  # sub $0xf..f81000000, %rax
}


@pytest.mark.parametrize("address", ITS_ADDRESS)
@pytest.mark.parametrize("question", ASKED)
@pytest.mark.parametrize(
    ("function", "site"), [("stop_this_cpu", "stop_this_cpu"), ("machine_kexec", "relocate_kernel")]
)
def test_a_flush_that_depends_on_where_kaslr_puts_the_kernel(
    newest, address, question, function, site
):
    def asks(_: int) -> bytes:
        return b"\x50\x51" + ITS_ADDRESS[address] + ASKED[question] + b"\x59\x58"

    decision = decide(planted(newest, function, asks, executes_wbinvd))
    reason = getattr(decision, site).unknown
    assert f"{site} also depends on where KASLR puts the kernel, asked at {CAVE}+0x" in reason


ASKED_ELSEWHERE = {
    "behind a jump": "488d0500000000 eb00 a900002000",  # lea 0(%rip), %rax; jmp; test
    "before a jump": "488d0500000000 a900002000 eb00",
    "of a return address": "e800000000 58 a900002000",  # call to behind it; pop %rax; test
    "in a vector register": "488d0500000000 66480f6ec0 66480f7ec1 f7c100002000",  # movq twice
}


@pytest.mark.parametrize("question", ASKED_ELSEWHERE)
def test_a_flush_that_asks_for_that_in_several_steps(newest, question):
    code = b"\x50\x51" + bytes.fromhex(ASKED_ELSEWHERE[question]) + b"\x59\x58"
    decision = decide(planted(newest, "stop_this_cpu", lambda _: code, executes_wbinvd))
    reason = decision.stop_this_cpu.unknown or ""
    assert reason.startswith("stop_this_cpu also depends on where KASLR puts the kernel, asked at ")


# -- code that says where it goes, or what it is ----------------------------------------------


def computed_jump(image: KernelImage) -> Callable[[int], bytes]:
    """Over a WBINVD if a variable is 0x7777, without a condition: XOR, NEG and SBB."""
    variable = address_of(image, "panic_timeout")

    def code(at: int) -> bytes:
        compares = b"\x8b\x05" + relative(at + 6, variable) + b"\x35\x77\x77\0\0\xf7\xd8"
        skips = b"\x48\x19\xc0\x48\xf7\xd0\x83\xe0\x02"  # 2 or 0: sbb, not, and
        goes = b"\x48\x8d\x0d\x05\0\0\0\x48\x01\xc8\xff\xe0"  # lea 5(%rip); add; jmp *%rax
        return compares + skips + goes + b"\x0f\x09"

    return code


@pytest.mark.parametrize("function", ["stop_this_cpu", "machine_kexec"])
def test_a_flush_that_a_computed_jump_leaves_out(newest, function):
    mutant = planted_call(newest, function, computed_jump(newest))
    site = {"machine_kexec": Site.RELOCATE_KERNEL}.get(function, Site.STOP_THIS_CPU)
    assert "panic_timeout" in unlisted(mutant, site)


def test_a_flush_while_code_is_not_patched(newest):
    """ftrace replaces the call at each function's start at boot (kernel/trace/ftrace.c)."""
    call = address_of(newest, "stop_this_cpu") + 4
    assert newest.read(call, 1) == b"\xe8"
    mutant = planted(newest, "stop_this_cpu", global_bit(call, 3), executes_wbinvd)
    assert unlisted(mutant, Site.STOP_THIS_CPU) == {"stop_this_cpu+0x4"}


def test_a_function_that_a_variable_holds(newest):
    place = address_of(newest, "panic_timeout") & ~7
    cave = address_of(newest, CAVE) + 0x40
    mutant = patched(newest, cave, b"\x0f\x09" + RETURN)
    mutant = patched(mutant, place, cave.to_bytes(8, "little"))
    mutant = planted_call(mutant, "stop_this_cpu", lambda at: b"\xff\x15" + relative(at + 6, place))
    assert unlisted(mutant, Site.STOP_THIS_CPU) == {function_at(newest, place)}


def test_a_flush_that_depends_on_mxcsr(newest):
    def asks(_: int) -> bytes:
        # push %rax; stmxcsr (%rsp); testb $0x80, 1(%rsp); pop %rax
        return b"\x50\x0f\xae\x1c\x24\xf6\x44\x24\x01\x80\x58"

    mutant = planted(newest, "stop_this_cpu", asks, executes_wbinvd)
    assert unlisted(mutant, Site.STOP_THIS_CPU) == {"MXCSR"}


def unlisted(image: KernelImage, site: Site) -> set[str]:
    """What the site depends on, by variable, beside the listed facts."""
    reruns = FirstWay(image)
    with reruns.series():
        searched = search_sites(reruns, list(machines(image)), sites=(site,))[site]
    return {one.name for one in searched.influences.values() if not one.explained}
