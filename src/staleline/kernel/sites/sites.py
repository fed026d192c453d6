# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the two sites to their end: ``stop_this_cpu()`` and ``machine_kexec()``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.pagestructures import page_structure
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.emulator import Emulator, End, EndKind
from staleline.kernel.emulator.layout import CONTROL_PAGES, KIMAGE, SWAP_PAGE
from staleline.kernel.image.symbols import required_address
from staleline.kernel.sites.afterflush import StopWait, stores_before_jump
from staleline.kernel.sites.kexecjump import prepare_kexec_jump
from staleline.kernel.sites.rest import stays_clean
from staleline.kernel.sites.stoppath import (
    NMI_CALLBACK,
    REPORT_SIZE,
    forked,
    report_address,
    reports_by_mask,
    stop_by_nmi,
    stop_others,
)
from staleline.vocabulary import ReportOrder, Through

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import KeptMemory, MachineMemory
    from staleline.kernel.emulator.notedstores import NotedAccess
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.sites.stoppath import WayToKexec

    #: Tells a CPU to stop; called with what is to be done at each of its WBINVDs.
    _Telling = Callable[[EmulatedMachine, LogicalCpu, Callable[[], None]], End]

__all__ = [
    "StopRun",
    "at_rest",
    "is_in",
    "run_relocate_kernel",
    "run_slow_to_stop",
    "run_stop_by_nmi",
    "run_stop_this_cpu",
    "site_decision",
    "stopped_by_way",
]

# struct kimage, include/linux/kexec.h, 5.10 to 7.3: these members come first.
_KIMAGE_HEAD: Final = 0
_KIMAGE_START: Final = 24
_KIMAGE_CONTROL_CODE_PAGE: Final = 32
_KIMAGE_SWAP_PAGE: Final = 40
_IND_DONE: Final = 4
_STOPS: Final = "stop_this_cpu"
_RESTING_PLACES: Final = (_STOPS, "native_halt")


@dataclass(frozen=True, slots=True)
class StopRun:
    """What a secondary did.

    Attributes:
        decision: Did it flush?
        reported_stopped: When it reported itself stopped.
        stops: It was told to stop, and did; None if that is unknown.
        reports: It reported itself stopped, whether it flushed or not.
        rests_at: Address of the instruction by which it halted.
    """

    decision: SiteDecision
    reported_stopped: ReportOrder | None
    stops: bool | None = True
    reports: bool = True
    rests_at: int | None = None


def run_stop_this_cpu(
    emulated: EmulatedMachine,
    cpu: LogicalCpu,
    *,
    jumping: LogicalCpu,
) -> StopRun:
    """Interrupt a secondary, so that it stops, while the jumping CPU waits for it."""
    return _stopped(StopWait(emulated, jumping, _report(emulated.image)), cpu, stop_others)


def run_stop_by_nmi(
    emulated: EmulatedMachine,
    cpus: tuple[LogicalCpu, LogicalCpu],
    sent: KeptMemory,
) -> StopRun | None:
    """The same of a secondary that is slow, and gets an NMI; None if no kernel code is for that.

    Memory and CPUs are left as they are.

    Args:
        emulated: The machine that they are of.
        cpus: The jumping CPU and the secondary.
        sent: Memory when the first interrupt has been sent.
    """
    if NMI_CALLBACK not in emulated.image.symbols:
        return None
    before = emulated.memory.kept()
    emulated.memory.put_back(sent)
    try:
        jumping, secondary = forked(cpus)
        return run_slow_to_stop(emulated, secondary, jumping=jumping, began=before)
    finally:
        emulated.memory.put_back(before)


def run_slow_to_stop(
    emulated: EmulatedMachine, cpu: LogicalCpu, *, jumping: LogicalCpu, began: KeptMemory
) -> StopRun:
    """Let a secondary take the NMI, in memory as it is when the first interrupt has been sent.

    Args:
        emulated: The machine that they are of.
        cpu: The secondary.
        jumping: The CPU that waits for it.
        began: Memory before the jumping CPU began to stop others.
    """
    wait = StopWait(emulated, jumping, _report(emulated.image), began)
    return _stopped(wait, cpu, stop_by_nmi)


def _report(image: KernelImage) -> range:
    """What a secondary changes to report itself stopped."""
    if _STOPS not in image.symbols:  # then where the CPU halts tells nothing
        raise DerivationError(f"the image has no symbol {_STOPS}")
    report = report_address(image)
    return range(report, report + REPORT_SIZE)


def _stopped(wait: StopWait, cpu: LogicalCpu, told: _Telling) -> StopRun:
    """What a secondary does when it is told to stop in one way or another."""
    emulated, memory, report = wait.emulated, wait.emulated.memory, wait.report.start
    # It is not the last one: what it says of others is not its to say.
    waiting, others = 3 << cpu.number, 2 << cpu.number
    memory.write_int(report, waiting, REPORT_SIZE)
    reported_at_flush: list[bool] = []

    def has_reported() -> bool:
        return memory.read_int(report, REPORT_SIZE) != waiting

    end = told(emulated, cpu, lambda: reported_at_flush.append(has_reported()))
    # A stopped CPU halts in stop_this_cpu() itself, by native_halt().
    wanted = EndKind.HALTED if is_in(emulated.image, end, _RESTING_PLACES) else None
    decision = site_decision(emulated.emulator, end, wanted, flushes=len(reported_at_flush))
    reports = has_reported()
    if decision.flushes and reports and reports_by_mask(emulated.image):
        left = memory.read_int(report, REPORT_SIZE)
        if left != others:
            reason = f"it reports others stopped too: {left:#x} of {waiting:#x} are left to stop"
            decision = SiteDecision(None, reason)
    if decision.flushes and end.stores:
        decision = _with_stores(decision, wait, end.stores)
    if not decision.flushes or not reports:
        return StopRun(decision, None, reports=reports, rests_at=end.address)
    before = reported_at_flush[0]
    order = ReportOrder.BEFORE_FLUSH if before else ReportOrder.AFTER_FLUSH
    return StopRun(decision, order, reports=reports, rests_at=end.address)


def stopped_by_way(run: StopRun, way: WayToKexec, by_nmi: StopRun | None) -> StopRun:
    """The same, if the way leads there, and to the same for a CPU that is told by an NMI."""
    if way.to_stop is not None:
        return StopRun(SiteDecision(None, way.to_stop), None, way.stops)
    if run.decision.flushes is None:
        return replace(run, stops=None)
    how = None if by_nmi is None else _otherwise(run, by_nmi)
    if by_nmi is None or how is None:
        return run
    reason = f"a CPU that has to be told by an NMI does not stop alike: {how}"
    stops = None if by_nmi.decision.unknown else True
    return StopRun(SiteDecision(None, reason), None, stops)


def at_rest(emulated: EmulatedMachine, run: StopRun) -> StopRun:
    """The same, if a secondary that has halted leaves nothing behind when it is woken."""
    if not run.decision.flushes or run.decision.left_behind or run.rests_at is None:
        return run
    function = emulated.image.symbols.enclosing(run.rests_at)
    stops = emulated.image.symbols.addresses(_STOPS)
    # Of several of one name that in which it halts; where the halt is another function's, none.
    around = [one for one in stops if function and run.rests_at - function[1] == one]
    (rests_in,) = around or (stops if len(stops) == 1 else (None,))
    reason = f"ambiguous: several symbols named {_STOPS}"
    if rests_in is not None:
        reason = stays_clean(emulated, run.rests_at, rests_in) or ""
    return replace(run, decision=SiteDecision(None, reason)) if reason else run


def _otherwise(run: StopRun, by_nmi: StopRun) -> str | None:
    """What a CPU that is told by an NMI does otherwise; None if nothing."""
    if by_nmi.decision.unknown is not None:
        return by_nmi.decision.unknown
    if by_nmi.decision.flushes is not run.decision.flushes:
        return "it stops, but flushes otherwise"
    if by_nmi.reports is not run.reports:
        return "it stops, but does not report itself alike"
    if by_nmi.reported_stopped is not run.reported_stopped:
        return "it stops, but reports itself in another order"
    if _aliases_left(by_nmi.decision) != _aliases_left(run.decision):
        both = (*by_nmi.decision.left_behind, *run.decision.left_behind)
        lines = ", ".join(sorted({store.line for store in both}))
        return f"it stops, but leaves other lines behind: {lines}"
    return None


def _aliases_left(decision: SiteDecision) -> frozenset[Through]:
    """All that a judgement asks of what is left behind; its stack is another in each case."""
    return frozenset(store.through for store in decision.left_behind)


def run_relocate_kernel(
    emulated: EmulatedMachine,
    cpu: LogicalCpu,
    *,
    preserve_context: bool = False,
) -> SiteDecision:
    """Let the jumping CPU go through ``machine_kexec()`` into the next kernel."""
    _write_kimage(emulated.image, emulated.memory, emulated.emulator.next_kernel_entry)
    if preserve_context:
        prepare_kexec_jump(emulated.image, emulated.memory)
    if "__relocate_kernel_start" in emulated.image.symbols:
        _prepare_control_page(emulated.image, emulated.memory)
    emulated.emulator.forget_code(CONTROL_PAGES.start, len(CONTROL_PAGES))
    emulated.emulator.forget_code(emulated.memory.direct(CONTROL_PAGES.start), len(CONTROL_PAGES))
    kimage = emulated.memory.direct(KIMAGE.start)
    before = len(cpu.flushes)
    end = emulated.emulator.run(
        required_address(emulated.image.symbols, "machine_kexec"), (kimage,), cpu=cpu
    )
    flushes = len(cpu.flushes) - before
    decision = site_decision(emulated.emulator, end, EndKind.HANDED_OVER, flushes=flushes)
    if not decision.flushes or not end.stores:
        return decision
    return replace(decision, stores=stores_before_jump(emulated, end.stores))


def is_in(image: KernelImage, end: End, functions: Container[str]) -> bool:
    """Did the run end in one of these functions, or in a part split off from it?"""
    found = image.symbols.enclosing(end.address)
    return found is not None and found[0].split(".")[0] in functions


def site_decision(
    emulator: Emulator, end: End, wanted: EndKind | None, *, flushes: int
) -> SiteDecision:
    """What a run shows of a site: an answer only if the run ended as it must (`wanted`).

    A CPU that halts for good does so with interrupts disabled: else the next one makes it go on.
    """
    is_open = end.kind is EndKind.HALTED and end.interruptible
    if end.kind is wanted and not is_open:
        return SiteDecision(flushes > 0)
    what = end.detail or f"{end.kind} at {emulator.describe(end.address)}"
    what += ", with interrupts enabled" * is_open
    executed = f" (after {flushes} WBINVD)" if flushes else ""
    return SiteDecision(None, f"the run did not reach its end{executed}: {what}")


def _with_stores(
    decision: SiteDecision, wait: StopWait, accesses: Sequence[NotedAccess]
) -> SiteDecision:
    """What the secondary leaves behind; the site is unknown if that is."""
    try:
        return replace(decision, stores=wait.stores_of_stopped(accesses))
    except DerivationError as error:
        return SiteDecision(None, f"what is left behind after its WBINVD is unknown: {error}")


def _write_kimage(image: KernelImage, memory: MachineMemory, entry: int) -> None:
    """The least a ``struct kimage`` needs: nothing to copy, one control and swap page, an entry."""
    memory.write(KIMAGE.start, bytes(len(KIMAGE)))
    memory.write_int(KIMAGE.start + _KIMAGE_HEAD, _IND_DONE, 8)
    memory.write_int(KIMAGE.start + _KIMAGE_START, entry, 8)
    for member, page in (
        (_KIMAGE_CONTROL_CODE_PAGE, CONTROL_PAGES.start),
        (_KIMAGE_SWAP_PAGE, SWAP_PAGE.start),
    ):
        memory.write_int(KIMAGE.start + member, page_structure(image, memory, page), 8)


def _prepare_control_page(image: KernelImage, memory: MachineMemory) -> None:
    """What ``machine_kexec_prepare()`` does since 6.14 (commit 207bdf7f72ae).

    It says where the swap page is for every kexec, jump or not (arch/x86/kernel/
    machine_kexec_64.c:358, 7.3.4); up to 6.13 ``machine_kexec()`` does.
    """
    start = required_address(image.symbols, "__relocate_kernel_start")
    size = required_address(image.symbols, "__relocate_kernel_end") - start
    if not 0 < size <= len(CONTROL_PAGES):
        raise DerivationError(f"relocate_kernel of {size:#x} bytes")
    memory.write_int(
        required_address(image.symbols, "kexec_va_control_page"),
        memory.direct(CONTROL_PAGES.start),
        8,
    )
    swap = image.symbols.address("kexec_pa_swap_page")
    if swap is not None:
        memory.write_int(swap, SWAP_PAGE.start, 8)
    memory.write(CONTROL_PAGES.start, memory.read(start, size))
