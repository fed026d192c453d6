# SPDX-License-Identifier: GPL-2.0-or-later
"""Three-valued evaluation: a known answer never changes when more becomes known."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from staleline.policy.atoms import AtomValue
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import Expression, atoms_read, parse

from .test_expression import expressions

DOMAINS: dict[str, tuple[AtomValue, ...]] = {
    "vendor": ("AuthenticAMD", "HygonGenuine", "GenuineIntel"),
    "max_extended_leaf": (0, 0x8000_0008, 0x8000_001F),
}


def domain(name: str) -> tuple[AtomValue, ...]:
    return DOMAINS.get(name, (False, True))


@given(expressions(), st.data())
def test_every_completion_of_a_decided_answer_agrees(
    expression: Expression, data: st.DataObject
) -> None:
    names = atoms_read(expression)
    partial = {
        name: data.draw(st.sampled_from((None, *domain(name))), label=name) for name in names
    }
    decided = evaluate(expression, partial)
    unknown = [name for name in names if partial[name] is None][:4]
    completed = set()
    for values in product(*(domain(name) for name in unknown)):
        filled = {**partial, **dict(zip(unknown, values, strict=True))}
        completed.add(evaluate(expression, filled))
    if decided is not None:
        assert completed == {decided}
    if len(unknown) == len([name for name in names if partial[name] is None]):
        assert None not in completed


def test_an_unknown_that_cannot_matter_does_not_make_the_answer_unknown() -> None:
    rule = parse("max_extended_leaf >= 0x8000001f and sme_supported")
    assert evaluate(rule, {"max_extended_leaf": 0x8000_0008}) is False
    assert evaluate(rule, {"sme_supported": False}) is False
    assert evaluate(rule, {"sme_supported": True}) is None
