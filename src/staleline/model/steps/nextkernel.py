# SPDX-License-Identifier: GPL-2.0-or-later
"""The next kernel: it encrypts itself in place, runs, and starts the secondaries."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.model.form import Action, Assign, Expr
from staleline.model.scenario import Scenario
from staleline.model.state.cpus import (
    ABSENT,
    CLEAN,
    CPUS,
    DIRTY,
    DRAM,
    JUMPING,
    NEWEST,
    SECONDARY,
    Cpu,
    Data,
    JumpingAt,
    SecondaryAt,
    next_write,
)
from staleline.model.state.lines import Alias, Line
from staleline.model.state.texts import line_phrase
from staleline.model.steps.steps import Where, step
from staleline.model.steps.wbinvd import completes

__all__ = ["next_kernel_actions"]

_ENC_COPY = "7.3 arch/x86/mm/mem_encrypt_boot.S:74 __enc_copy"
_TRAMPOLINE = "7.3 arch/x86/realmode/rm/trampoline_64.S:63 trampoline_start"
_MTRR = Where("cache_disable", "7.3 arch/x86/kernel/cpu/cacheinfo.c:658, from setup.c:1051")
_INIT = "SDM vol. 3 ch. 9.1: INIT leaves the caches as they are"


def next_kernel_actions(scenario: Scenario, line: Line) -> Iterator[Action]:
    """Everything after the jump."""
    if scenario.encrypts_in_place:
        yield from _in_place_encryption(scenario, line)
        if line.converted or line.scratch:
            reading = JUMPING.at(JumpingAt.EARLY, JumpingAt.ENCRYPTING)
            # Only the work area is written while the encryption runs.
            writing = reading if line.scratch else JUMPING.at(JumpingAt.EARLY)
            yield _write(line, JUMPING, writing, line.early, "early_next")
            yield _fill(line, JUMPING, reading, line.early, "early_next")
    yield from _secondary_starts(scenario, line)
    for cpu in CPUS:
        running = cpu.at(JumpingAt.NEXT if cpu is JUMPING else SecondaryAt.NEXT)
        yield _write(line, cpu, running, line.next, "next")
        yield _fill(line, cpu, running, line.next, "next")


def _write(line: Line, cpu: Cpu, running: Expr, alias: Alias, who: str) -> Action:
    return Action(
        name=f"{cpu.actor}_{who}_write",
        actor=cpu.actor,
        guard=running & cpu.entry(alias).none_of(DIRTY),
        assigns=next_write(cpu, alias),
        function="next kernel",
        source="",
        sentence=f"The next kernel writes {line_phrase(line)} through its "
        f"{line.name_of(alias)} alias on {{cpu}}.",
    )


def _fill(line: Line, cpu: Cpu, running: Expr, alias: Alias, who: str) -> Action:
    return Action(
        name=f"{cpu.actor}_{who}_fill",
        actor=cpu.actor,
        guard=running & cpu.entry(alias).one_of(ABSENT),
        assigns=(cpu.entry(alias).becomes(CLEAN),),
        function="next kernel",
        source="",
        sentence=f"The next kernel reads {line_phrase(line)} through its "
        f"{line.name_of(alias)} alias on {{cpu}}.",
    )


def _in_place_encryption(scenario: Scenario, line: Line) -> Iterator[Action]:
    """One WBINVD on this CPU, then the copy from the plain to the C-bit alias."""
    clean, left = completes(scenario, line, JUMPING)
    flushes_again = line.scratch and scenario.mtrr_flush
    arrives = JumpingAt.MTRR_FLUSHING if flushes_again else JumpingAt.NEXT
    yield _enc_copy(
        "begins",
        JUMPING.at(JumpingAt.EARLY),
        (JUMPING.goes(JumpingAt.ENC_FLUSHING),),
        "{cpu}, now in the next kernel, begins the WBINVD of __enc_copy.",
    )
    yield _enc_copy(
        "flushed",
        JUMPING.at(JumpingAt.ENC_FLUSHING) & clean,
        (JUMPING.goes(JumpingAt.ENCRYPTING), *left),
        "The WBINVD of __enc_copy completes on {cpu}.",
    )
    yield _enc_copy(
        "copies",
        JUMPING.at(JumpingAt.ENCRYPTING),
        (JUMPING.goes(arrives), *_conversion(line)),
        _conversion_text(line),
    )
    if flushes_again:
        yield step(
            JUMPING,
            "mtrr_flushed",
            JUMPING.at(JumpingAt.MTRR_FLUSHING) & clean,
            (JUMPING.goes(JumpingAt.NEXT), *left),
            (*_MTRR, "{cpu} completes the WBINVD of cache_disable and programs its MTRRs."),
        )


def _enc_copy(name: str, guard: Expr, assigns: tuple[Assign, ...], sentence: str) -> Action:
    return Action(
        name=f"enc_copy_{name}",
        actor=JUMPING.actor,
        guard=guard,
        assigns=assigns,
        function="__enc_copy",
        source=_ENC_COPY,
        sentence=sentence,
    )


def _conversion(line: Line) -> tuple[Assign, ...]:
    """The copy's store."""
    # Nobody wants the work area's contents after the copy.
    if line.scratch:
        return (NEWEST.becomes("none"), DRAM.becomes(Data.OLD))
    # Its load may fill a clean entry, which `_fill` has done or not.
    return next_write(JUMPING, line.next) if line.converted else ()


def _conversion_text(line: Line) -> str:
    if line.scratch:
        return "{cpu} finishes __enc_copy and needs " + f"{line_phrase(line)} no longer."
    if not line.converted:
        return "{cpu} finishes __enc_copy; " + f"{line_phrase(line)} is not converted."
    return (
        f"{{cpu}} encrypts {line_phrase(line)} in place in __enc_copy: it reads through the "
        f"{line.name_of(line.early)} alias and writes through the {line.name_of(line.next)} alias."
    )


def _secondary_starts(scenario: Scenario, line: Line) -> Iterator[Action]:
    """INIT-SIPI. The trampoline's WBINVD writes back what the old kernel left here."""
    # INIT takes a CPU from wherever it waits, and a straggler out of the old kernel.
    places = [SecondaryAt.HALTED]
    if scenario.plays_dead:
        places += [SecondaryAt.OFFLINE]
    if scenario.leaves_stragglers:
        places += [SecondaryAt.RUNNING]
    halted = SECONDARY.at(*places) & JUMPING.at(JumpingAt.NEXT)
    if scenario.flush_faults:
        # sev_es_trampoline_start has no WBINVD (7.3 trampoline_64.S:105).
        says = "The next kernel starts {cpu}, whose trampoline has no WBINVD."
        yield _start("starts", halted, (SECONDARY.goes(SecondaryAt.NEXT),), says)
        return
    clean, left = completes(scenario, line, SECONDARY)
    yield _start(
        "starts",
        halted,
        (SECONDARY.goes(SecondaryAt.STARTING),),
        "The next kernel starts {cpu} by INIT-SIPI; trampoline_start begins with WBINVD.",
    )
    yield _start(
        "started",
        SECONDARY.at(SecondaryAt.STARTING) & clean,
        (SECONDARY.goes(SecondaryAt.NEXT), *left),
        "The WBINVD of trampoline_start completes on {cpu}, which runs the next kernel.",
    )


def _start(name: str, guard: Expr, assigns: tuple[Assign, ...], sentence: str) -> Action:
    return Action(
        name=f"secondary_{name}",
        actor=SECONDARY.actor,
        guard=guard,
        assigns=assigns,
        function="trampoline_start",
        source=f"{_TRAMPOLINE}; {_INIT}",
        sentence=sentence,
    )
