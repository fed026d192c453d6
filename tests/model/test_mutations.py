# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking away what keeps a handover safe: the model notices, and says what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from staleline.check.runs.trace import counterexample_of
from staleline.check.search.search import Found, search
from staleline.model.form import Action, Assign, Model
from staleline.model.scenario import Scenario
from staleline.model.state.lines import Line, Role
from staleline.model.world import world
from tests.check.scenarios import kexec


def _case(scenario: Scenario, role: Role) -> tuple[Line, Model]:
    return next((line, model) for line, model in world(scenario) if line.role is role)


def _with_action(model: Model, name: str, change: Callable[[Action], Action]) -> Model:
    assert name in {action.name for action in model.actions}
    actions = tuple(change(one) if one.name == name else one for one in model.actions)
    return replace(model, actions=actions)


def _moves_only(action: Action) -> Action:
    """Keep only where the CPU goes."""
    moves: tuple[Assign, ...] = tuple(
        assign for assign in action.assigns if assign.target.name.endswith("pc")
    )
    return replace(action, assigns=moves)


def _skips(place: str) -> Callable[[Action], Action]:
    """A WBINVD that is over at once and has written nothing back."""

    def change(action: Action) -> Action:
        moves = _moves_only(action)
        return replace(moves, guard=moves.assigns[0].target.one_of(place))

    return change


def _checked(line: Line, model: Model) -> tuple[Found, str]:
    found = search(model, 1)
    assert found.run is not None
    assert found.violated is not None
    told = counterexample_of(kexec("off→on"), line, model, found.violated, found.run)
    return found, told.steps[-1].sentence


def test_without_the_wbinvd_of_enc_copy_the_plain_image_destroys_the_encrypted_one() -> None:
    # 7.3 arch/x86/mm/mem_encrypt_boot.S:124.
    line, model = _case(kexec("off→on"), Role.IMAGE)
    assert search(model, 1).violated is None
    unflushed = _with_action(model, "enc_copy_flushed", _skips("enc_flushing"))
    found, sentence = _checked(line, unflushed)
    assert found.violated == "P1"
    assert "the jumping CPU writes back its stale dirty plain entry" in sentence
    assert sentence.endswith("through the C-bit alias.")


def test_a_next_kernel_that_does_not_convert_its_image_reads_stale_data() -> None:
    line, model = _case(kexec("off→on"), Role.IMAGE)
    unconverted = _with_action(model, "enc_copy_copies", _moves_only)
    found, sentence = _checked(line, unconverted)
    assert found.violated == "P1"
    assert sentence == (
        "The next kernel reads the image's destination line through its C-bit alias on the "
        "jumping CPU. What it gets is stale: the next kernel wrote through the plain alias."
    )


def test_a_flush_that_completes_with_dirty_lines_left_is_no_flush() -> None:
    line, model = _case(kexec("on→off"), Role.REST)
    found, sentence = _checked(line, _with_action(model, "jumping_flushed", _skips("flushing")))
    assert found.violated == "P1"
    assert "stale dirty C-bit entry of the line in the rest of RAM" in sentence
