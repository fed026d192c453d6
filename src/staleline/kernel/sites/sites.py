# SPDX-License-Identifier: GPL-2.0-or-later
"""Let the secondary stop to its end, in ``stop_this_cpu()``; jump.py has a kexec's other site."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.execution.end import End, EndKind
from staleline.kernel.sites.afterflush import StopWait
from staleline.kernel.sites.ending import is_in, site_decision
from staleline.kernel.sites.rest import stays_clean
from staleline.kernel.sites.stoppath import (
    REPORT_SIZE,
    forked,
    report_address,
    reports_by_mask,
    stop_others,
    take_nmi,
)
from staleline.vocabulary import ReportOrder, Through

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import KeptMemory
    from staleline.kernel.emulator.notedstores import NotedAccess
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.sites.stoppath import WayToKexec

    #: Tells a CPU to stop; called with what is to be done at each of its WBINVDs.
    _Telling = Callable[[EmulatedMachine, LogicalCpu, Callable[[], None]], End]

__all__ = [
    "StopRun",
    "at_rest",
    "run_slow_to_stop",
    "run_stop_by_nmi",
    "run_stop_this_cpu",
    "stopped_by_way",
]

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
    way: WayToKexec,
) -> StopRun | None:
    """The same of a secondary that is slow, and gets an NMI; None if none is sent.

    Memory and CPUs are left as they are.

    Args:
        emulated: The machine that they are of.
        cpus: The jumping CPU and the secondary.
        way: How they are told.
    """
    if way.sent is None or way.told is None:
        return None
    before = emulated.memory.kept()
    emulated.memory.put_back(way.sent)
    for address, content in way.told.items():
        emulated.memory.write(address, content)
    try:
        jumping, secondary = forked(cpus)
        return run_slow_to_stop(emulated, secondary, jumping=jumping, began=before)
    finally:
        emulated.memory.put_back(before)


def run_slow_to_stop(
    emulated: EmulatedMachine, cpu: LogicalCpu, *, jumping: LogicalCpu, began: KeptMemory
) -> StopRun:
    """Let a secondary take the NMI, in memory as it is when that has been sent.

    Args:
        emulated: The machine that they are of.
        cpu: The secondary.
        jumping: The CPU that waits for it.
        began: Memory before the jumping CPU began to stop others.
    """
    wait = StopWait(emulated, jumping, _report(emulated.image), began)
    return _stopped(wait, cpu, take_nmi)


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
    if wanted is None and end.ends_elsewhere:
        # One that returns has not been told to stop, or is told once more.
        rests = end.kind is EndKind.HALTED
        decision = replace(decision, astray=reports, unmodelled=rests)
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
    function = emulated.image.symbols.start_of(run.rests_at)
    # Of several of one name that in which it halts; where the halt is another function's, none.
    if function not in emulated.image.symbols.addresses(_STOPS):
        function = emulated.image.symbols.only_address(_STOPS)
    reason = f"ambiguous: several symbols named {_STOPS}"
    if function is not None:
        reason = stays_clean(emulated, run.rests_at, function) or ""
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


def _with_stores(
    decision: SiteDecision, wait: StopWait, accesses: Sequence[NotedAccess]
) -> SiteDecision:
    """What the secondary leaves behind; the site is unknown if that is."""
    try:
        return replace(decision, stores=wait.stores_of_stopped(accesses))
    except DerivationError as error:
        return SiteDecision(None, f"what is left behind after its WBINVD is unknown: {error}")
