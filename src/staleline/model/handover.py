# SPDX-License-Identifier: GPL-2.0-or-later
"""The way out of the old kernel: secondaries stop, the jumping CPU relocates."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.model.cpus import (
    DIRTY,
    JUMPING,
    NEWEST,
    SECONDARY,
    Cpu,
    JumpingAt,
    SecondaryAt,
    each,
    next_write,
)
from staleline.model.form import TRUE, Action, All, Assign, Expr, in_order
from staleline.model.lines import Line, Role
from staleline.model.nextkernel import encrypts_in_place
from staleline.model.scenario import Path, ReportOrder, Scenario
from staleline.model.texts import line_phrase
from staleline.model.wbinvd import SEAMCALLED, completes, flushes, forgets

__all__ = ["handover"]

_WBINVD = "SDM, APM: WBINVD writes back all modified lines of this CPU and invalidates them"
_STOP = "7.3 arch/x86/kernel/process.c:822 stop_this_cpu"
_STOP_OTHERS = "7.3 arch/x86/kernel/smp.c:150 native_stop_other_cpus"
_CRASH_NMI = "7.3 arch/x86/kernel/reboot.c:813 crash_nmi_callback"
_SHOOTDOWN = "7.3 arch/x86/kernel/reboot.c:864 nmi_shootdown_cpus"
_RELOCATE = "7.3 arch/x86/kernel/relocate_kernel_64.S:225"


def handover(scenario: Scenario, line: Line) -> Iterator[Action]:
    """From the decision to leave to the first instruction of the next kernel."""
    yield _stop_request(scenario, line)
    yield from _secondary(scenario, line)
    yield _all_stopped(scenario, line)
    yield from _relocation(scenario, line)


def _stop_request(scenario: Scenario, line: Line) -> Action:
    crash = scenario.path is Path.CRASH
    # Without a loaded crash kernel a crash does not kexec.
    loaded = NEWEST.none_of("none") if line.role is Role.CRASH_SEGMENT else TRUE
    return Action(
        name="stop_request",
        actor=JUMPING.actor,
        guard=JUMPING.at(JumpingAt.RUNNING) & loaded,
        assigns=(JUMPING.goes(JumpingAt.WAITING),),
        function="nmi_shootdown_cpus" if crash else "native_stop_other_cpus",
        source=_SHOOTDOWN if crash else _STOP_OTHERS,
        sentence="{cpu} crashes and stops all other CPUs by NMI."
        if crash
        else "{cpu} asks all other CPUs to stop, in native_stop_other_cpus.",
    )


def _secondary(scenario: Scenario, line: Line) -> Iterator[Action]:
    """A secondary from the stop request to its halt."""
    where = _secondaries_site(scenario)
    choice = flushes(scenario, line, scenario.flush_secondary, SECONDARY.ref(SEAMCALLED))
    stopping = SECONDARY.at(SecondaryAt.STOPPING)
    yield _step(
        SECONDARY,
        "enters_stop",
        SECONDARY.at(SecondaryAt.RUNNING) & JUMPING.at(JumpingAt.WAITING),
        (SECONDARY.goes(SecondaryAt.STOPPING),),
        (*where, f"{{cpu}} enters {where[0]}."),
    )
    if scenario.report is ReportOrder.BEFORE_FLUSH:
        yield _step(
            SECONDARY,
            "reports",
            stopping,
            (SECONDARY.goes(SecondaryAt.REPORTED), *_reports(line)),
            (where[0], "before commit 1f5e7eb7868e (v6.5)", "{cpu} reports itself stopped."),
        )
        stopping = SECONDARY.at(SecondaryAt.REPORTED)
    yield _flush_begins(scenario, SECONDARY, stopping & choice.flushes, where)
    yield from _halts(scenario, line, stopping & choice.skips)


def _halts(scenario: Scenario, line: Line, skips: Expr) -> Iterator[Action]:
    """The last step of a secondary, after its WBINVD or without one."""
    function, source = _secondaries_site(scenario)
    early = scenario.report is ReportOrder.BEFORE_FLUSH
    reporting = () if early else _reports(line)
    says = "halts" if early else "reports itself stopped and halts"
    halted = (SECONDARY.goes(SecondaryAt.HALTED), *forgets(scenario, line, SECONDARY))
    yield _step(
        SECONDARY,
        "halts_unflushed",
        skips,
        (*halted, *reporting),
        (function, source, f"{{cpu}} {says} without a flush, in {function}."),
    )
    clean, left = completes(line, SECONDARY)
    yield _step(
        SECONDARY,
        "halts_flushed",
        SECONDARY.at(SecondaryAt.FLUSHING) & clean,
        (*halted, *in_order(left, reporting)),
        (function, _WBINVD, f"The WBINVD of {function} completes on {{cpu}}, which {says}."),
    )


def _secondaries_site(scenario: Scenario) -> tuple[str, str]:
    """Kernel function and source of the secondaries' site."""
    if scenario.path is Path.CRASH:
        return "crash_nmi_callback", _CRASH_NMI
    return "stop_this_cpu", _STOP


def _reports(line: Line) -> tuple[Assign, ...]:
    """Reporting clears a bit of the stop mask, which leaves that line dirty on this CPU."""
    if line.role is not Role.STOP_MASK:
        return ()
    return (SECONDARY.entry(line.old).becomes(DIRTY), *SECONDARY.invalidates_others(line.old))


def _all_stopped(scenario: Scenario, line: Line) -> Action:
    reported = [SecondaryAt.HALTED]
    if scenario.report is ReportOrder.BEFORE_FLUSH:
        reported += [SecondaryAt.REPORTED, SecondaryAt.FLUSHING]
    crash = scenario.path is Path.CRASH
    mask: tuple[Assign, ...] = ()
    if line.role is Role.STOP_MASK and scenario.clears_stop_mask:
        mask = (JUMPING.entry(line.old).becomes(DIRTY), *JUMPING.invalidates_others(line.old))
    last = ", clears the stop mask" if mask else ""
    return Action(
        name="all_stopped",
        actor=JUMPING.actor,
        guard=JUMPING.at(JumpingAt.WAITING) & All(each("pc").one_of(*reported)),
        assigns=(JUMPING.goes(JumpingAt.RELOCATING), *mask),
        function="nmi_shootdown_cpus" if crash else "native_stop_other_cpus",
        source=_SHOOTDOWN if crash else _STOP_OTHERS,
        sentence=f"{{cpu}} sees that all other CPUs have reported{last} and enters "
        "relocate_kernel.",
    )


def _relocation(scenario: Scenario, line: Line) -> Iterator[Action]:
    choice = flushes(scenario, line, scenario.flush_jumping, JUMPING.ref(SEAMCALLED))
    where = ("relocate_kernel", _RELOCATE)
    relocating = JUMPING.at(JumpingAt.RELOCATING)
    copying = (JUMPING.goes(JumpingAt.COPYING), *forgets(scenario, line, JUMPING))
    clean, left = completes(line, JUMPING)
    yield _step(
        JUMPING,
        "skips_flush",
        relocating & choice.skips,
        copying,
        (*where, "{cpu} skips the WBINVD of relocate_kernel."),
    )
    yield _flush_begins(scenario, JUMPING, relocating & choice.flushes, where)
    yield _step(
        JUMPING,
        "flushed",
        JUMPING.at(JumpingAt.FLUSHING) & clean,
        (*copying, *left),
        (where[0], _WBINVD, "The WBINVD of relocate_kernel completes on {cpu}."),
    )
    yield _jump(scenario, line)


def _jump(scenario: Scenario, line: Line) -> Action:
    arrives = JumpingAt.EARLY if encrypts_in_place(scenario) else JumpingAt.NEXT
    effect = next_write(JUMPING, line.early) if line.copied else ()
    copies = (
        f"{{cpu}} copies the image, writing {line_phrase(line)} through the "
        f"{line.name_of(line.early)} alias, and jumps to the next kernel."
        if line.copied
        else f"{{cpu}} jumps to the next kernel; {line_phrase(line)} is not copied over."
    )
    return _step(
        JUMPING,
        "jumps",
        JUMPING.at(JumpingAt.COPYING),
        (JUMPING.goes(arrives), *effect),
        # The identity map carries no C-bit (machine_kexec_64.c:245 _KERNPG_TABLE_NOENC).
        ("relocate_kernel", "7.3 arch/x86/kernel/relocate_kernel_64.S swap_pages", copies),
    )


def _flush_begins(scenario: Scenario, cpu: Cpu, guard: Expr, where: tuple[str, str]) -> Action:
    function, source = where
    if scenario.flush_faults:
        faulted = JumpingAt.FAULTED if cpu is JUMPING else SecondaryAt.FAULTED
        says = f"{{cpu}} executes WBINVD in {function}, where it faults."
        return _step(cpu, "flush_faults", guard, (cpu.goes(faulted),), (function, source, says))
    flushing = JumpingAt.FLUSHING if cpu is JUMPING else SecondaryAt.FLUSHING
    says = f"{{cpu}} begins the WBINVD of {function}."
    return _step(cpu, "flush_begins", guard, (cpu.goes(flushing),), (function, source, says))


def _step(
    cpu: Cpu, name: str, guard: Expr, assigns: tuple[Assign, ...], text: tuple[str, str, str]
) -> Action:
    """An action of one CPU; `text` is function, source, sentence."""
    function, source, sentence = text
    return Action(
        name=f"{cpu.actor}_{name}",
        actor=cpu.actor,
        guard=guard,
        assigns=assigns,
        function=function,
        source=source,
        sentence=sentence,
    )
