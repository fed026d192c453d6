# SPDX-License-Identifier: GPL-2.0-or-later
"""The jumping CPU's way out of the old kernel, once the others are out of its way."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.model.form import Action, in_order
from staleline.model.scenario import Scenario
from staleline.model.state.cpus import JUMPING, SEAMCALLED, JumpingAt, first_write
from staleline.model.state.lines import Line
from staleline.model.state.texts import line_phrase
from staleline.model.steps.steps import WBINVD, Where, flush_begins, step
from staleline.model.steps.wbinvd import completes, flushes, forgets

__all__ = ["relocation"]

_RELOCATE = "7.3 arch/x86/kernel/relocate_kernel_64.S:225"


def relocation(scenario: Scenario, line: Line) -> Iterator[Action]:
    """The flush of relocate_kernel, the copy of the image, and the jump."""
    choice = flushes(scenario, line, scenario.flush_jumping, JUMPING.ref(SEAMCALLED))
    where = Where("relocate_kernel", _RELOCATE)
    relocating = JUMPING.at(JumpingAt.RELOCATING)
    copying = (JUMPING.goes(JumpingAt.COPYING), *forgets(scenario, line, JUMPING))
    clean, left = completes(scenario, line, JUMPING)
    late = line.left_by(scenario.left_by_jumping)
    stores = f", which then writes {line_phrase(line)}" if late else ""
    yield step(
        JUMPING,
        "skips_flush",
        relocating & choice.skips,
        copying,
        (*where, "{cpu} skips the WBINVD of relocate_kernel."),
    )
    yield flush_begins(scenario, JUMPING, relocating & choice.flushes, where)
    yield step(
        JUMPING,
        "flushed",
        JUMPING.at(JumpingAt.FLUSHING) & clean,
        (*copying, *in_order(left, JUMPING.dirties(line.old) if late else ())),
        (where.function, WBINVD, f"The WBINVD of relocate_kernel completes on {{cpu}}{stores}."),
    )
    yield _jump(scenario, line)


def _jump(scenario: Scenario, line: Line) -> Action:
    arrives = JumpingAt.EARLY if scenario.encrypts_in_place else JumpingAt.NEXT
    effect = first_write(JUMPING, line.early) if line.copied else ()
    copies = (
        f"{{cpu}} copies the image, writing {line_phrase(line)} through the "
        f"{line.name_of(line.early)} alias, and jumps to the next kernel."
        if line.copied
        else f"{{cpu}} jumps to the next kernel; {line_phrase(line)} is not copied over."
    )
    return step(
        JUMPING,
        "jumps",
        JUMPING.at(JumpingAt.COPYING),
        (JUMPING.goes(arrives), *effect),
        # The identity map carries no C-bit (machine_kexec_64.c:245 _KERNPG_TABLE_NOENC).
        ("relocate_kernel", "7.3 arch/x86/kernel/relocate_kernel_64.S swap_pages", copies),
    )
