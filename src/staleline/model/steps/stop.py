# SPDX-License-Identifier: GPL-2.0-or-later
"""How the old kernel gets the other CPUs out of the way, and waits for them."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.model.form import TRUE, Action, All, Assign, Expr, in_order
from staleline.model.scenario import Path, ReportOrder, Scenario, Stop
from staleline.model.state.cpus import (
    JUMPING,
    NEWEST,
    SEAMCALLED,
    SECONDARY,
    JumpingAt,
    SecondaryAt,
    each,
)
from staleline.model.state.lines import Line, Role
from staleline.model.state.texts import line_phrase
from staleline.model.steps.steps import WBINVD, Where, flush_begins, step
from staleline.model.steps.wbinvd import completes, flushes, forgets

__all__ = ["stop_actions"]

_STOP = Where("stop_this_cpu", "7.3 arch/x86/kernel/process.c:822 stop_this_cpu")
_STOP_OTHERS = Where(
    "native_stop_other_cpus", "7.3 arch/x86/kernel/smp.c:150 native_stop_other_cpus"
)
_FORCED = Where("native_stop_other_cpus", "7.3 arch/x86/kernel/smp.c:155 reboot_force")
_CRASH_NMI = Where("crash_nmi_callback", "7.3 arch/x86/kernel/reboot.c:813 crash_nmi_callback")
_SHOOTDOWN = Where("nmi_shootdown_cpus", "7.3 arch/x86/kernel/reboot.c:864 nmi_shootdown_cpus")
_HOT_UNPLUG = Where("suspend_disable_secondary_cpus", "7.3 kernel/kexec_core.c:1181 kernel_kexec")
_AGAIN = "7.3 arch/x86/kernel/smp.c:184-189: a CPU that has reported may still handle the NMI"


def stop_actions(scenario: Scenario, line: Line) -> Iterator[Action]:
    """From the decision to leave to the end of the wait for all others."""
    if scenario.stop is Stop.SKIPPED:
        yield _nobody_asked()
        return
    yield _stop_request(scenario, line)
    if not scenario.preserve_context:
        yield from _secondary(scenario, line)
        if scenario.late_nmi:
            yield from _enters_again(scenario, line)
    yield _all_stopped(scenario, line)


def _nobody_asked() -> Action:
    says = "{cpu} stops no other CPU, because of reboot=force, and enters relocate_kernel."
    return step(
        JUMPING,
        "asks_nobody",
        JUMPING.at(JumpingAt.RUNNING),
        (JUMPING.goes(JumpingAt.RELOCATING),),
        (*_FORCED, says),
    )


def _stop_request(scenario: Scenario, line: Line) -> Action:
    # Without a loaded crash kernel a crash does not kexec.
    loaded = NEWEST.none_of("none") if line.role is Role.CRASH_SEGMENT else TRUE
    says = "{cpu} asks all other CPUs to stop, in native_stop_other_cpus."
    if scenario.path is Path.CRASH:
        says = "{cpu} crashes and stops all other CPUs by NMI."
    if scenario.preserve_context:
        says = "{cpu} takes all other CPUs offline for a kexec jump."
    where = _control(scenario)
    return Action(
        name="stop_request",
        actor=JUMPING.actor,
        guard=JUMPING.at(JumpingAt.RUNNING) & loaded,
        assigns=(JUMPING.goes(JumpingAt.WAITING),),
        function=where.function,
        source=where.source,
        sentence=says,
    )


def _control(scenario: Scenario) -> Where:
    """Who waits for the others."""
    if scenario.preserve_context:
        return _HOT_UNPLUG
    return _SHOOTDOWN if scenario.path is Path.CRASH else _STOP_OTHERS


def _site(scenario: Scenario) -> Where:
    """The secondaries' site."""
    return _CRASH_NMI if scenario.path is Path.CRASH else _STOP


def _secondary(scenario: Scenario, line: Line) -> Iterator[Action]:
    """A secondary from the stop request to its halt."""
    where = _site(scenario)
    choice = flushes(scenario, line, scenario.flush_secondary, SECONDARY.ref(SEAMCALLED))
    stopping = SECONDARY.at(SecondaryAt.STOPPING)
    asked = JUMPING.at(JumpingAt.WAITING)
    # An NMI that was sent before the wait was given up may be taken at any time after.
    if scenario.stop is Stop.GIVES_UP:
        asked = JUMPING.ref("pc").none_of(JumpingAt.RUNNING)
    yield step(
        SECONDARY,
        "enters_stop",
        SECONDARY.at(SecondaryAt.RUNNING) & asked,
        (SECONDARY.goes(SecondaryAt.STOPPING),),
        (*where, f"{{cpu}} enters {where.function}."),
    )
    if scenario.report is ReportOrder.BEFORE_FLUSH:
        before = "before commit 1f5e7eb7868e (v6.5)"
        yield step(
            SECONDARY,
            "reports",
            stopping,
            (SECONDARY.goes(SecondaryAt.REPORTED), *_reports(line)),
            (where.function, before, "{cpu} reports itself stopped."),
        )
        stopping = SECONDARY.at(SecondaryAt.REPORTED)
    yield flush_begins(scenario, SECONDARY, stopping & choice.flushes, where)
    yield from _halts(scenario, line, stopping & choice.skips)


def _halts(scenario: Scenario, line: Line, skips: Expr) -> Iterator[Action]:
    """The last step of a secondary, after its WBINVD or without one."""
    function, source = _site(scenario)
    early = scenario.report is ReportOrder.BEFORE_FLUSH
    reporting = () if early else _reports(line)
    says = "halts" if early else "reports itself stopped and halts"
    halted = (SECONDARY.goes(SecondaryAt.HALTED), *forgets(scenario, line, SECONDARY))
    yield step(
        SECONDARY,
        "halts_unflushed",
        skips,
        (*halted, *reporting),
        (function, source, f"{{cpu}} {says} without a flush, in {function}."),
    )
    clean, left = completes(scenario, line, SECONDARY)
    late = line.left_by(scenario.left_by_secondary)
    stores = f"then writes {line_phrase(line)}, " if late else ""
    yield step(
        SECONDARY,
        "halts_flushed",
        SECONDARY.at(SecondaryAt.FLUSHING) & clean,
        (*halted, *in_order(left, _stored_late(scenario, line, reporting))),
        (function, WBINVD, f"The WBINVD of {function} completes on {{cpu}}, which {stores}{says}."),
    )


def _enters_again(scenario: Scenario, line: Line) -> Iterator[Action]:
    """A late NMI takes a CPU that has reported through stop_this_cpu once more."""
    choice = flushes(scenario, line, scenario.flush_secondary, SECONDARY.ref(SEAMCALLED))
    again = SECONDARY.at(SecondaryAt.REENTERED)
    halted = SECONDARY.goes(SecondaryAt.HALTED)
    yield step(
        SECONDARY,
        "takes_late_nmi",
        SECONDARY.at(SecondaryAt.HALTED) & JUMPING.at(JumpingAt.WAITING),
        (SECONDARY.goes(SecondaryAt.REENTERED),),
        (
            _STOP.function,
            _AGAIN,
            "{cpu}, which has reported, takes the NMI for laggards and enters stop_this_cpu again.",
        ),
    )
    begins = (SECONDARY.goes(SecondaryAt.REFLUSHING),)
    says = "{cpu} begins the WBINVD of stop_this_cpu once more."
    if scenario.flush_faults:
        begins = (SECONDARY.goes(SecondaryAt.FAULTED),)
        says = "{cpu} executes WBINVD in stop_this_cpu once more, where it faults."
    yield step(SECONDARY, "flush_begins_again", again & choice.flushes, begins, (*_STOP, says))
    yield step(
        SECONDARY,
        "halts_unflushed_again",
        again & choice.skips,
        (halted, *_reports(line)),
        (*_STOP, "{cpu} halts again without a flush, in stop_this_cpu."),
    )
    clean, left = completes(scenario, line, SECONDARY)
    yield step(
        SECONDARY,
        "halts_flushed_again",
        SECONDARY.at(SecondaryAt.REFLUSHING) & clean,
        (halted, *in_order(left, _stored_late(scenario, line, _reports(line)))),
        (_STOP.function, WBINVD, "The second WBINVD completes on {cpu}, which halts again."),
    )


def _reports(line: Line) -> tuple[Assign, ...]:
    """Reporting clears a bit of the stop mask, which leaves that line dirty on this CPU."""
    if line.role is not Role.STOP_MASK:
        return ()
    return SECONDARY.dirties(line.old)


def _stored_late(
    scenario: Scenario, line: Line, reporting: tuple[Assign, ...]
) -> tuple[Assign, ...]:
    """What a secondary stores behind its flush: it reports, and may leave other lines dirty."""
    late = line.left_by(scenario.left_by_secondary)
    # No line is both: those left behind are other lines than the stop mask's.
    return SECONDARY.dirties(line.old) if late else reporting


def _all_stopped(scenario: Scenario, line: Line) -> Action:
    where = _control(scenario)
    mask: tuple[Assign, ...] = ()
    # The store takes the line from those caches that reporting left it dirty in.
    if line.role is Role.STOP_MASK and scenario.clears_stop_mask:
        mask = JUMPING.dirties(line.old)
    last = ", clears the stop mask" if mask else ""
    gives_up = scenario.stop is Stop.GIVES_UP
    sees = "waits no longer" if gives_up else "sees that all other CPUs have reported"
    stopped = TRUE if gives_up else All(each("pc").one_of(*_stopped(scenario)))
    return Action(
        name="all_stopped",
        actor=JUMPING.actor,
        guard=JUMPING.at(JumpingAt.WAITING) & stopped,
        assigns=(JUMPING.goes(JumpingAt.RELOCATING), *mask),
        function=where.function,
        source=where.source,
        sentence=f"{{cpu}} {sees}{last} and enters relocate_kernel.",
    )


def _stopped(scenario: Scenario) -> list[SecondaryAt]:
    """Where the CPUs are that the jumping CPU does not wait for."""
    places = [] if scenario.preserve_context else [SecondaryAt.HALTED]
    if scenario.report is ReportOrder.BEFORE_FLUSH and not scenario.preserve_context:
        places += [SecondaryAt.REPORTED, SecondaryAt.FLUSHING]
    if scenario.late_nmi:
        places += [SecondaryAt.REENTERED, SecondaryAt.REFLUSHING]
    if scenario.plays_dead:
        places += [SecondaryAt.OFFLINE]
        if not scenario.play_dead_settled:
            places += [SecondaryAt.OFFLINING]
    return places
