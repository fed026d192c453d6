# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a kexec handover is safe, as an invariant that a person can read.

Every clause is a statement about the jumping CPU, or about every secondary, however many
there are. Together they hold at first, are kept by every step, and exclude every violation;
`check.proof.invariant` has z3 check each of these conditions by itself. They are written for a
kexec on which secondaries report themselves stopped after their flush.

Three aliases of the line matter: `old`, of the old kernel or its guests; `early`, through
which relocate_kernel copies; and `next`, of the next kernel once it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from staleline.model.form import FALSE, TRUE, All, Expr, all_of
from staleline.model.scenario import Scenario
from staleline.model.state.cpus import (
    DIRTY,
    DRAM,
    JUMPING,
    NEWEST,
    SEAMCALLED,
    Data,
    JumpingAt,
    SecondaryAt,
    counts_seamcalls,
    each,
)
from staleline.model.state.lines import Alias, Line, Role

__all__ = ["Clause", "invariant"]


@dataclass(frozen=True, slots=True)
class Clause:
    """One statement of the invariant.

    Attributes:
        name: Short, unique.
        says: The statement in English.
        holds: The statement.
    """

    name: str
    says: str
    holds: Expr


AT_WORK = (JumpingAt.RUNNING, JumpingAt.WAITING)
AT_ITS_SITE = (JumpingAt.RELOCATING, JumpingAt.FLUSHING)
BEFORE_THE_JUMP = (*AT_WORK, *AT_ITS_SITE, JumpingAt.COPYING)
BEFORE_ENCRYPTING = (JumpingAt.EARLY, JumpingAt.ENC_FLUSHING)
ENCRYPTING = (*BEFORE_ENCRYPTING, JumpingAt.ENCRYPTING)


def invariant(scenario: Scenario, line: Line) -> tuple[Clause, ...]:
    # docs/proof.md says of each clause what makes it true.
    """The invariant for the line of one role."""
    return (
        *_order_of_the_handover(),
        *_data(line),
        *_dirty_lines_before_the_jump(scenario, line),
        *_dirty_lines_after_the_jump(line),
    )


def _order_of_the_handover() -> Iterator[Clause]:
    yield Clause(
        "no fault",
        "No CPU has executed a WBINVD that faults.",
        ~JUMPING.at(JumpingAt.FAULTED) & All(~secondary_at(SecondaryAt.FAULTED)),
    )
    yield Clause(
        "all halted",
        "Once the jumping CPU has left its wait, every secondary has halted; only a running "
        "next kernel starts it again.",
        JUMPING.at(*AT_WORK)
        | All(secondary_at(SecondaryAt.HALTED, SecondaryAt.STARTING, SecondaryAt.NEXT)),
    )
    yield Clause(
        "started late",
        "A secondary starts only when the next kernel runs with its own alias.",
        JUMPING.at(JumpingAt.NEXT) | All(~secondary_at(SecondaryAt.STARTING, SecondaryAt.NEXT)),
    )


def _data(line: Line) -> Iterator[Clause]:
    yield Clause(
        "nothing new before the jump",
        "Before the jump the next kernel has written nothing.",
        implies(JUMPING.at(*BEFORE_THE_JUMP), NEWEST.one_of("none")),
    )
    yield Clause(
        "early data",
        "Until the next kernel has encrypted itself, the newest data of what was copied was "
        "written through the early alias, and nothing else was written.",
        implies(JUMPING.at(*ENCRYPTING), NEWEST.one_of(line.early if line.copied else "none")),
    )
    yield Clause(
        "data of the running kernel",
        "Once the next kernel runs, its newest data was written through its own alias.",
        implies(JUMPING.at(JumpingAt.NEXT), newest_in(line.next)),
    )
    yield Clause(
        "DRAM",
        "DRAM is not destroyed, and has data of the next kernel only if that has written any.",
        DRAM.none_of(Data.LOST) & (DRAM.none_of(Data.NEWEST) | NEWEST.none_of("none")),
    )


def _dirty_lines_before_the_jump(scenario: Scenario, line: Line) -> Iterator[Clause]:
    yield Clause(
        "only old lines",
        "Before the jump every dirty line is one of the old alias.",
        implies(JUMPING.at(*BEFORE_THE_JUMP), nobody_dirty(*aliases_but(line, line.old))),
    )
    if counts_seamcalls(scenario, line):
        yield Clause(
            "SEAMCALL counted",
            "A CPU that holds a dirty private line and has its flush ahead of it made a SEAMCALL.",
            _seamcall_counted(line),
        )
    yield Clause(
        "flushed by stop_this_cpu",
        "A halted secondary holds no dirty line of the old alias, unless the next kernel's first "
        "store, or the last store to the stop mask, takes the line away from it.",
        _flushed_by_stop_this_cpu(scenario, line),
    )
    yield Clause(
        "flushed by relocate_kernel",
        "When the image is copied, the jumping CPU holds no dirty line of the old alias, unless "
        "the next kernel's first store goes through that alias, or __enc_copy flushes before it.",
        _flushed_by_relocate_kernel(scenario, line),
    )


def _dirty_lines_after_the_jump(line: Line) -> Iterator[Clause]:
    yield Clause(
        "only new lines on secondaries",
        "After the jump every dirty line of a secondary is one of the next kernel's own alias, "
        "and no newer data was written through another.",
        JUMPING.at(*BEFORE_THE_JUMP)
        | All(
            none_dirty_of_each(*aliases_but(line, line.next))
            & (each(line.next).none_of(DIRTY) | newest_in(line.next))
        ),
    )
    early = jumping_clean(*aliases_but(line, line.early)) if line.copied else TRUE
    yield Clause(
        "only new lines before encryption",
        "Until __enc_copy has flushed, every dirty line of what was copied is one of the early "
        "alias on the jumping CPU.",
        implies(JUMPING.at(*BEFORE_ENCRYPTING), early),
    )
    yield Clause(
        "flushed by __enc_copy",
        "When __enc_copy encrypts, the jumping CPU holds no dirty line.",
        implies(JUMPING.at(JumpingAt.ENCRYPTING), jumping_clean(*line.aliases)),
    )
    yield Clause(
        "only new lines on the jumping CPU",
        "Once the next kernel runs, every dirty line of the jumping CPU is one of its own alias.",
        implies(JUMPING.at(JumpingAt.NEXT), jumping_clean(*aliases_but(line, line.next))),
    )


def _flushed_by_stop_this_cpu(scenario: Scenario, line: Line) -> Expr:
    # The first store then goes through the old alias itself, and coherency takes the line from all
    # caches.
    if line.old is first_written(line):
        return TRUE
    flushed = All(~secondary_at(SecondaryAt.HALTED) | each(line.old).none_of(DIRTY))
    # The stop mask is written once more when all have halted, which cleans their caches of it.
    early = AT_WORK if line.role is Role.STOP_MASK and scenario.clears_stop_mask else ()
    return (JUMPING.at(*early) if early else FALSE) | flushed


def _flushed_by_relocate_kernel(scenario: Scenario, line: Line) -> Expr:
    # What is not copied is first written by __enc_copy, after its own WBINVD.
    if line.old is first_written(line) or (scenario.encrypts_in_place and not line.copied):
        return TRUE
    return implies(JUMPING.at(JumpingAt.COPYING), jumping_clean(line.old))


def _seamcall_counted(line: Line) -> Expr:
    jumping = jumping_clean(line.old) | JUMPING.ref(SEAMCALLED).one_of("yes")
    secondary = each(line.old).none_of(DIRTY) | each(SEAMCALLED).one_of("yes")
    # The flag is set before the instruction (7.3.4 arch/x86/virt/vmx/tdx/seamcall_internal.h:40).
    ahead = secondary_at(SecondaryAt.RUNNING, SecondaryAt.STOPPING)
    return implies(JUMPING.at(*AT_WORK, JumpingAt.RELOCATING), jumping) & All(~ahead | secondary)


def first_written(line: Line) -> Alias:
    """The alias of the next kernel's first store to the line."""
    return line.early if line.copied else line.next


def aliases_but(line: Line, one: Alias) -> tuple[Alias, ...]:
    """The line's other aliases."""
    return tuple(alias for alias in line.aliases if alias is not one)


def implies(condition: Expr, conclusion: Expr) -> Expr:
    """If, then."""
    return ~condition | conclusion


def secondary_at(*places: SecondaryAt) -> Expr:
    """The secondary that `All` is at is at one of these places."""
    return each("pc").one_of(*places)


def newest_in(alias: Alias) -> Expr:
    """The next kernel has written nothing yet, or through this alias last."""
    return NEWEST.one_of("none", alias)


def none_dirty_of_each(*aliases: Alias) -> Expr:
    """The secondary that `All` is at holds no dirty entry of these aliases."""
    return all_of(*(each(alias).none_of(DIRTY) for alias in aliases))


def jumping_clean(*aliases: Alias) -> Expr:
    """The jumping CPU holds no dirty entry of these aliases."""
    return all_of(*(JUMPING.entry(alias).none_of(DIRTY) for alias in aliases))


def nobody_dirty(*aliases: Alias) -> Expr:
    """No CPU holds a dirty entry of these aliases."""
    return jumping_clean(*aliases) & (All(none_dirty_of_each(*aliases)) if aliases else TRUE)
