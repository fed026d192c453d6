# SPDX-License-Identifier: GPL-2.0-or-later
"""Thread-modular views: a proof for every number of secondaries at once.

A view is the globals together with the locals of one secondary. The set of views is closed under
the moves of the jumping CPU, of that secondary, and of any other secondary whose view has the same
globals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from staleline.check.search.compiled import JUMPING, CompiledModel, IdState
from staleline.check.search.search import search
from staleline.errors import ModelError
from staleline.model.form import All, And, Any, Expr, Model, Or

__all__ = ["Views", "closure", "views"]


@dataclass(frozen=True, slots=True)
class Views:
    """The closed set of views.

    Attributes:
        count: Number of views.
        suspect: Name of a property that a view breaks; None if the properties are proved.
    """

    count: int
    suspect: str | None

    @property
    def proved(self) -> bool:
        """The model's properties hold for every number of secondaries, its goal aside."""
        return self.suspect is None


def views(model: Model, compiled: CompiledModel | None = None) -> Views:
    """Close the views of a model and look for one that breaks a property.

    Args:
        model: The model.
        compiled: It in compiled form, to compile it only once.

    Raises:
        ModelError: A guard asks whether some other secondary exists that ..., which a set
            that grows cannot answer.
    """
    _check_guards(model)
    compiled = compiled or CompiledModel(model)
    closed = closure(compiled)
    # A view knows of the others which views exist, so it allows more than can happen: if no view
    # breaks a property, no state does, however many secondaries there are. If one does, nothing is
    # said.
    broken = _suspect(compiled, closed)
    # Views are of secondaries; where there is none, the jumping CPU's own run is searched.
    alone = search(model, 0, compiled).violated if broken is None else None
    return Views(sum(map(len, closed.values())), broken or alone)


def closure(compiled: CompiledModel) -> dict[int, set[int]]:
    """Globals -> locals of the views that have them, all as the compiled model's numbers."""
    closed: dict[int, set[int]] = defaultdict(set)
    waiting = [compiled.initial(1)]
    while waiting:
        shared, local = waiting.pop()
        if local not in closed[shared]:
            closed[shared].add(local)
            waiting.extend(_after(compiled, shared, local, closed[shared]))
    return closed


def _after(compiled: CompiledModel, shared: int, local: int, others: set[int]) -> Iterator[IdState]:
    """The views that a new view leads to, alone and with each view of the same globals."""
    # Asked of this one alone, "all" is less than what a run has to satisfy (docs/proof.md).
    for after, _, (changed,) in compiled.moves(shared, JUMPING, (local,)):
        yield after, changed
    # With nobody beside it "all others" holds, which again is less.
    for after, own, _ in compiled.moves(shared, local, ()):
        yield after, own
    # The new view is among them, as two secondaries may be in the same local state.
    yield from compiled.between(shared, local, others)


def _suspect(compiled: CompiledModel, closed: dict[int, set[int]]) -> str | None:
    everybody = {shared: tuple(locals_) for shared, locals_ in closed.items()}
    violated = compiled.first_violation(lambda view: everybody[view[0]])
    names = (violated((shared, one)) for shared, ones in closed.items() for one in ones)
    return next((name for name in names if name is not None), None)


def _check_guards(model: Model) -> None:
    for action in model.actions:
        if _asks_for_some(action.guard):
            raise ModelError(
                "a guard that asks for some other secondary",
                where=f"{model.title}, action {action.name}",
                do="keep what it asks for in a global variable",
            )


def _asks_for_some(expr: Expr) -> bool:
    match expr:
        case Any():
            return True
        case All(body):
            return _asks_for_some(body)
        case And(operands) | Or(operands):
            return any(_asks_for_some(operand) for operand in operands)
    return False
