# SPDX-License-Identifier: GPL-2.0-or-later
"""How many states a model can reach, whatever they break: what other checkers count, too.

Secondaries are interchangeable, so it is enough to visit one state of each set of states
that are permutations of each other; how many states there are without symmetry follows from
how often each local state occurs in it.
"""

from __future__ import annotations

from collections import Counter
from math import factorial, prod

from staleline.check.search.compiled import CompiledModel
from staleline.model.form import Model

__all__ = ["count_states"]


def count_states(model: Model, secondaries: int) -> int:
    """Count the reachable states of a model, secondaries told apart; violations do not stop it.

    Args:
        model: The model.
        secondaries: Number of secondaries, at least 0.
    """
    compiled = CompiledModel(model)
    reached = {compiled.initial(secondaries)}
    frontier = list(reached)
    while frontier:
        after = {new for state in frontier for new in compiled.successors(state, symmetry=True)}
        frontier = list(after - reached)
        reached |= after
    return sum(_permutations(state[1:]) for state in reached)


def _permutations(locals_: tuple[int, ...]) -> int:
    """In how many ways secondaries can be numbered that have these local states."""
    alike = prod(factorial(times) for times in Counter(locals_).values())
    return factorial(len(locals_)) // alike
