# SPDX-License-Identifier: GPL-2.0-or-later
"""Who flushes at a site, and when that is done (SDM volume 2, APM volume 3: WBINVD)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.model.form import FALSE, TRUE, All, And, Expr
from staleline.model.scenario import Flush, ForeignLines, Path, Scenario, SharedCache
from staleline.model.state.cpus import (
    ABSENT,
    DIRTY,
    JUMPING,
    SEAMCALLED,
    SECONDARY,
    Cpu,
    counts_seamcalls,
    each,
)
from staleline.model.state.lines import Line, Role, lines_of
from staleline.model.state.sharedcache import shared_entry
from staleline.model.steps.wbinvd import Choice, completes, flushes, forgets

TDX_HOST = Scenario(
    path=Path.KEXEC,
    old_encrypts=False,
    next_encrypts=False,
    incoherent=True,
    foreign=ForeignLines.TDX,
    flush_secondary=Flush.AFTER_SEAMCALL,
    flush_jumping=Flush.AFTER_SEAMCALL,
)
SME_HOST = replace(
    TDX_HOST,
    old_encrypts=True,
    foreign=ForeignLines.NONE,
    flush_secondary=Flush.ALWAYS,
    flush_jumping=Flush.ALWAYS,
)
FLAG = SECONDARY.ref(SEAMCALLED)


def line(scenario: Scenario, role: Role) -> Line:
    return next(line for line in lines_of(scenario) if line.role is role)


def test_always_and_never_ask_for_nothing() -> None:
    image = line(SME_HOST, Role.IMAGE)
    assert flushes(SME_HOST, image, Flush.ALWAYS, FLAG) == Choice(TRUE, FALSE)
    assert flushes(SME_HOST, image, Flush.NEVER, FLAG) == Choice(FALSE, TRUE)


def test_without_tdx_no_cpu_makes_a_seamcall() -> None:
    image = line(SME_HOST, Role.IMAGE)
    assert flushes(SME_HOST, image, Flush.AFTER_SEAMCALL, FLAG) == Choice(FALSE, TRUE)


def test_a_private_line_is_dirtied_by_the_seamcall_that_sets_the_flag() -> None:
    # Set before the instruction (linux 7.3.4 arch/x86/virt/vmx/tdx/seamcall_internal.h:40).
    private = line(TDX_HOST, Role.FOREIGN_IMAGE)
    choice = flushes(TDX_HOST, private, Flush.AFTER_SEAMCALL, FLAG)
    assert choice == Choice(FLAG.one_of("yes"), FLAG.one_of("no"))


def test_a_seamcall_for_another_line_may_have_been_made_or_not() -> None:
    own = line(TDX_HOST, Role.IMAGE)
    assert not counts_seamcalls(TDX_HOST, own)
    assert flushes(TDX_HOST, own, Flush.AFTER_SEAMCALL, FLAG) == Choice(TRUE, TRUE)


def test_the_flag_is_kept_only_for_who_is_asked_again() -> None:
    private = line(TDX_HOST, Role.FOREIGN_IMAGE)
    assert forgets(TDX_HOST, private, SECONDARY) == (FLAG.becomes("no"),)
    # A late NMI takes a CPU through its site twice (linux 7.3.4 arch/x86/kernel/smp.c:184).
    assert forgets(replace(TDX_HOST, late_nmi=True), private, SECONDARY) == ()


def parts(expr: Expr) -> set[Expr]:
    return set(expr.operands) if isinstance(expr, And) else {expr}


@pytest.mark.parametrize("cpu", [JUMPING, SECONDARY], ids=["jumping", "secondary"])
def test_it_is_done_when_nothing_dirty_is_left_on_its_own_cpu(cpu: Cpu) -> None:
    image = line(SME_HOST, Role.IMAGE)
    clean, left = completes(SME_HOST, image, cpu)
    assert parts(clean) == {cpu.entry(alias).none_of(DIRTY) for alias in image.aliases}
    assert set(left) == {cpu.entry(alias).becomes(ABSENT) for alias in image.aliases}


@pytest.mark.parametrize("cpu", [JUMPING, SECONDARY], ids=["jumping", "secondary"])
def test_how_far_it_reaches_is_the_shared_caches(cpu: Cpu) -> None:
    # CPUID 0x8000001D EDX[0] = 1: not guaranteed for the other sharers' lower levels (linux 7.3.4
    # arch/x86/include/asm/cpuid/leaf_types.h:1901).
    own = replace(SME_HOST, shared_cache=SharedCache.OWN_CORE)
    image = line(own, Role.IMAGE)
    shared = {shared_entry(alias).none_of(DIRTY) for alias in image.aliases}
    private = {cpu.entry(alias).none_of(DIRTY) for alias in image.aliases}
    assert parts(completes(own, image, cpu)[0]) == shared | private

    everywhere = replace(own, shared_cache=SharedCache.ALL_CORES)
    reached = parts(completes(everywhere, image, cpu)[0])
    others = {part for part in reached if isinstance(part, All)}
    assert [parts(other.body) for other in others] == [
        {each(alias).none_of(DIRTY) for alias in image.aliases}
    ]
    jumping = {JUMPING.entry(alias).none_of(DIRTY) for alias in image.aliases}
    assert reached - others == shared | private | jumping
