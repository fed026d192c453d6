# SPDX-License-Identifier: GPL-2.0-or-later
"""What every verdict takes for granted (docs/model.md): what would follow without it, and what not.

Line numbers are those of Linux 7.3 unless another version is named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import pytest

from staleline.check.search.search import search
from staleline.check.search.views import views
from staleline.model.form import Action, Assign, Expr, Model, in_order
from staleline.model.scenario import Flush, ForeignLines, Path, Scenario
from staleline.model.state.cpus import (
    ABSENT,
    CPUS,
    DIRTY,
    JUMPING,
    SECONDARY,
    JumpingAt,
    SecondaryAt,
    first_write,
)
from staleline.model.state.lines import Line, Role, lines_of
from staleline.model.world import model_of, world
from tests.check.scenarios import TRANSITIONS, kexec

#: Every handover of a host or a SEV guest, with every choice of flushes.
SCENARIOS = [
    kexec(
        transition,
        path=path,
        incoherent=incoherent,
        foreign=foreign,
        guest=guest,
        flush_secondary=secondary,
        flush_jumping=jumping,
    )
    for transition, path, incoherent, foreign, guest, secondary, jumping in product(
        TRANSITIONS,
        Path,
        (True, False),
        ForeignLines,
        (False, True),
        (Flush.NEVER, Flush.ALWAYS),
        (Flush.NEVER, Flush.ALWAYS),
    )
    if (incoherent or foreign is not ForeignLines.TDX)
    and (not guest or (transition == "on→on" and foreign is ForeignLines.NONE))
]


def safe(models: Iterable[Model]) -> bool:
    return all(search(model, 2).violated is None for model in models)


def with_action(model: Model, name: str, guard: Expr, assigns: tuple[Assign, ...]) -> Model:
    """One that a secondary may take besides."""
    added = Action(name, SECONDARY.actor, guard, assigns, "", "", "")
    return replace(model, actions=(*model.actions, added))


def taken_over(line: Line, model: Model, place: SecondaryAt) -> Model:
    """A secondary at a place may take over what the jumping CPU holds dirty, by reading it."""
    theirs, own = JUMPING.entry(line.old), SECONDARY.entry(line.old)
    guard = SECONDARY.at(place) & theirs.one_of(DIRTY)
    return with_action(model, "takes_over", guard, (own.becomes(DIRTY), theirs.becomes(ABSENT)))


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_reader_that_took_dirty_lines_over_would_undo_its_flush(transition: str) -> None:
    """AMD's APM, volume 2, 7.3: who is read from keeps a modified line, as its owner."""
    lines = world(kexec(transition))
    # Before its flush it could as well have made the store itself.
    assert safe(taken_over(*one, SecondaryAt.RUNNING) for one in lines)
    behind = [taken_over(*one, SecondaryAt.HALTED) for one in lines]
    assert safe(behind) is (transition == "off→off")


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_halted_cpu_that_anything_woke_to_store_would_undo_its_flush(transition: str) -> None:
    def woken(line: Line, model: Model) -> Model:
        at_work = SECONDARY.at(SecondaryAt.HALTED) & JUMPING.at(JumpingAt.WAITING)
        return with_action(model, "is_woken", at_work, SECONDARY.dirties(line.old))

    models = [woken(*one) for one in world(kexec(transition))]
    assert safe(models) is (transition == "off→off")


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_next_kernel_that_encrypts_without_a_flush_destroys_what_was_copied(
    transition: str,
) -> None:
    """Whatever the old kernel flushes (arch/x86/mm/mem_encrypt_boot.S:124)."""

    def unflushed(action: Action) -> Action:
        if action.name != "enc_copy_flushed":
            return action
        goes = (JUMPING.goes(JumpingAt.ENCRYPTING),)
        return replace(action, guard=JUMPING.at(JumpingAt.ENC_FLUSHING), assigns=goes)

    lines = world(kexec(transition))
    broken = [
        line.role
        for line, model in lines
        if not safe([replace(model, actions=tuple(map(unflushed, model.actions)))])
    ]
    assert broken == ([Role.IMAGE] if transition.endswith("→on") else [])


def loaded_in_place(scenario: Scenario) -> Model:
    """The line of an image that is loaded where it will run, so that nothing is copied.

    Since 6.17 kexec_file_load() takes such memory out of CMA if it can, decrypts it as all pages of
    an image, and does not encrypt it again (kernel/kexec_file.c kexec_alloc_contig(), commit
    07d24902977e).
    """
    in_a_crash = lines_of(replace(scenario, path=Path.CRASH))
    line = next(line for line in in_a_crash if line.role is Role.CRASH_SEGMENT)
    loads = {f"{cpu.actor}_loads": cpu for cpu in CPUS}

    def loading(action: Action) -> Action:
        cpu = loads.get(action.name)
        if cpu is None:
            return action
        # Decrypting flushes what the caches hold of the kernel's own alias, as in a crash.
        decrypts = scenario.old_encrypts and not scenario.keeps_encryption
        gone = (cpu.entry(line.old).becomes(ABSENT), *cpu.invalidates_others(line.old))
        stored = first_write(cpu, line.early)
        return replace(action, assigns=in_order(gone if decrypts else (), stored))

    model = model_of(scenario, line)
    assert loads.keys() <= {action.name for action in model.actions}
    return replace(model, actions=tuple(map(loading, model.actions)))


def without_trampoline(model: Model) -> Model:
    """A next kernel that starts its other CPUs without a WBINVD."""

    def starting(action: Action) -> Action:
        if action.name != "secondary_starts":
            return action
        return replace(action, assigns=(SECONDARY.goes(SecondaryAt.NEXT),))

    return replace(model, actions=tuple(map(starting, model.actions)))


def test_an_image_that_is_loaded_in_place_needs_no_other_flush() -> None:
    checked = 0
    for scenario in SCENARIOS:
        if scenario.path is Path.KEXEC and safe(model for _, model in world(scenario)):
            assert views(loaded_in_place(scenario)).proved, scenario
            checked += 1
    assert checked > 20


def test_nothing_is_safe_for_the_flush_of_the_cpus_that_the_next_kernel_starts() -> None:
    """Guests of SEV-ES and up have none there (arch/x86/realmode/rm/trampoline_64.S:105)."""
    checked = 0
    for scenario in SCENARIOS:
        for _, model in world(scenario):
            if views(model).proved:
                assert views(without_trampoline(model)).proved, (scenario, model.title)
                checked += 1
    assert checked > 100


def test_what_a_crashing_cpu_stores_to_control_pages_does_no_harm() -> None:
    """machine_kexec() does up to 6.12; where a load has settled, the role is left out for that."""
    crashes = [scenario for scenario in SCENARIOS if scenario.path is Path.CRASH]
    for scenario in crashes:
        settled = replace(scenario, load_settled=True)
        assert Role.CRASH_CONTROL not in {line.role for line in lines_of(settled)}
        (control,) = (line for line in lines_of(scenario) if line.role is Role.CRASH_CONTROL)
        model = model_of(settled, control)
        only_crashing = tuple(one for one in model.actions if one.name != "secondary_old_write")
        assert len(only_crashing) == len(model.actions) - 1
        assert views(replace(model, actions=only_crashing)).proved, scenario
