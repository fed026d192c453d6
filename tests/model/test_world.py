# SPDX-License-Identifier: GPL-2.0-or-later
"""What the models of the scenarios are made of."""

from __future__ import annotations

import pytest

from staleline.errors import ModelError
from staleline.model.form import All, And, Any, Expr, Model, Not, OneOf, Or, Ref, Whose
from staleline.model.scenario import ForeignLines
from staleline.model.state.lines import Alias, Role, lines_of
from staleline.model.world import world
from tests.check.scenarios import TRANSITIONS, crash, every_scenario, kexec


def _refs(expr: Expr) -> set[tuple[Ref, str]]:
    match expr:
        case OneOf(ref, values):
            return {(ref, value) for value in values}
        case Not(operand):
            return _refs(operand)
        case And(operands) | Or(operands):
            return {ref for operand in operands for ref in _refs(operand)}
        case All(body) | Any(body):
            return _refs(body)
    return set()


def _used(model: Model) -> set[tuple[Ref, str]]:
    guards = [action.guard for action in model.actions]
    broken = [item.violated for item in model.properties]
    read = {ref for expr in (*guards, *broken, model.goal) for ref in _refs(expr)}
    written = {(assign.target, assign.value) for a in model.actions for assign in a.assigns}
    return read | written


def test_models_use_only_declared_variables_and_values() -> None:
    for scenario in every_scenario(1):
        for _, model in world(scenario):
            shared = {variable.name: variable.domain for variable in model.globals}
            local = {variable.name: variable.domain for variable in model.locals}
            for ref, value in _used(model):
                assert value in (shared if ref.whose is Whose.GLOBAL else local)[ref.name]


def test_actions_have_unique_names_and_assign_each_target_once() -> None:
    for scenario in every_scenario(1):
        for _, model in world(scenario):
            names = [action.name for action in model.actions]
            assert len(names) == len(set(names))
            for action in model.actions:
                targets = [assign.target for assign in action.assigns]
                assert len(targets) == len(set(targets)), action.name


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_on_coherent_hardware_all_aliases_are_one(transition: str) -> None:
    scenario = kexec(transition, incoherent=False, foreign=ForeignLines.SEV_GUESTS)
    assert all(len(line.aliases) == 1 for line in lines_of(scenario))


def test_roles_of_a_kexec() -> None:
    assert [line.role for line in lines_of(kexec("off→off"))] == [
        Role.IMAGE,
        Role.REST,
        Role.STOP_MASK,
    ]
    guests = lines_of(kexec("on→off", foreign=ForeignLines.SEV_GUESTS))
    assert {Role.DECRYPTED, Role.FOREIGN_IMAGE, Role.FOREIGN_REST} <= {one.role for one in guests}


def test_a_crash_kernel_uses_its_reservation_only() -> None:
    segment, control, vmcoreinfo = lines_of(crash("on→on", foreign=ForeignLines.SEV_GUESTS))
    assert (segment.role, segment.old) == (Role.CRASH_SEGMENT, Alias.CBIT)
    assert (control.role, control.old) == (Role.CRASH_CONTROL, Alias.PLAIN)
    assert (vmcoreinfo.role, vmcoreinfo.old) == (Role.CRASH_VMCOREINFO, Alias.CBIT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"secondaries": -1}, "give 0 or more"),
        ({"flush_faults": True}, "give old_encrypts and next_encrypts the same value"),
        ({"foreign": ForeignLines.TDX, "incoherent": False}, "no Intel CPU keeps KeyIDs coherent"),
    ],
)
def test_combinations_that_no_machine_shows_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        kexec("on→off", **changes)
