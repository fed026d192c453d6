# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of rows, and relations between rows, as binary decision diagrams.

A row is what the local states of all secondaries are, one after the other. A local state is
written in binary, and so is what it is after a move.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from oxidd.bcdd import BCDDFunction, BCDDManager
from oxidd.util import BooleanOperator

from staleline.check.diagrams.localstates import Values

__all__ = ["Diagram", "Pairs", "Rows", "States"]

#: A set of rows, or a relation between rows.
Diagram = BCDDFunction

#: Local states before and after.
Pairs = frozenset[tuple[Values, Values]]
#: Local states.
States = frozenset[Values]

#: Entries of the cache of results, for each node there is room for.
_CACHE_SHARE = 4

_State = TypeVar("_State", bound=Hashable)
_Label = TypeVar("_Label", States, Pairs)


class Rows:
    """The diagrams over one number of secondaries.

    Args:
        locals_: All local states; the first is the one with code 0.
        secondaries: Length of a row.
        nodes: Most nodes there may be at a time; one more raises `oxidd.util.DDMemoryError`.
    """

    def __init__(self, locals_: Sequence[Values], secondaries: int, nodes: int) -> None:
        self._codes = {local: code for code, local in enumerate(locals_)}
        self._bits = max(1, (len(locals_) - 1).bit_length())
        self._places = range(secondaries)
        # One thread: a second one makes oxidd slower (docs/decisions.md).
        self._manager = BCDDManager(nodes, nodes // _CACHE_SHARE, 1)
        self._manager.add_vars(2 * self._bits * secondaries)
        self.all, self.none = self._manager.true(), self._manager.false()
        self._before, self._after = self._cube(0), self._cube(1)
        firsts = range(0, 2 * self._bits * secondaries, 2)
        variable = self._manager.var
        self._to_before = Diagram.make_substitution([(bit + 1, variable(bit)) for bit in firsts])
        self._to_after = Diagram.make_substitution([(bit, variable(bit + 1)) for bit in firsts])
        self._coded: dict[tuple[int, int, Values], Diagram] = {}
        self._labels: dict[tuple[int, States | Pairs], Diagram] = {}
        self._grouped: dict[Pairs, list[tuple[Values, States]]] = {}

    @property
    def nodes(self) -> int:
        """Nodes there are now, those not yet collected included."""
        return self._manager.num_inner_nodes()

    def count(self, rows: Diagram) -> int:
        """The number of rows in a set, exactly."""
        bits = self._bits * len(self._places)
        # The bits after a move, which a set of rows leaves free, are counted too.
        return rows.sat_count(2 * bits) >> bits

    def image(self, rows: Diagram, relation: Diagram) -> Diagram:
        """The rows that some row of a set is related to."""
        # In one operation: the conjunction by itself can be far larger than what is left of it.
        after = rows.apply_exists(BooleanOperator.AND, relation, self._before)
        return after.substitute(self._to_before)

    def preimage(self, rows: Diagram, relation: Diagram) -> Diagram:
        """The rows that are related to some row of a set."""
        after = rows.substitute(self._to_after)
        return after.apply_exists(BooleanOperator.AND, relation, self._after)

    def rows(
        self,
        start: _State,
        arcs: Mapping[_State, Mapping[_State, States]],
        ends: Callable[[_State], bool],
    ) -> Diagram:
        """The rows that an automaton accepts.

        Args:
            start: Its state before the first secondary.
            arcs: State -> next state -> the local states that lead there.
            ends: Whether it accepts in a state after the last secondary.
        """
        return self._walk(start, arcs, ends, self._one_of)

    def relation(
        self,
        start: _State,
        arcs: Mapping[_State, Mapping[_State, Pairs]],
        ends: Callable[[_State], bool],
    ) -> Diagram:
        """The relation of the pairs of rows that an automaton accepts, reading both at once."""
        return self._walk(start, arcs, ends, self._pair_of)

    def _walk(
        self,
        start: _State,
        arcs: Mapping[_State, Mapping[_State, _Label]],
        ends: Callable[[_State], bool],
        diagram: Callable[[int, _Label], Diagram],
    ) -> Diagram:
        rest = {state: self.all if ends(state) else self.none for state in arcs}
        # From the end: what matters at a place is only what an automaton that reads from the start
        # can know.
        for place in reversed(self._places):
            rest = {
                state: self._union(
                    diagram(place, label) & rest[after]
                    for after, label in leaving.items()
                    # Saves to build the label of an arc that leads nowhere.
                    if rest[after].satisfiable()
                )
                for state, leaving in arcs.items()
            }
        return rest[start]

    def _one_of(self, place: int, states: States) -> Diagram:
        key = place, states
        if key not in self._labels:
            self._labels[key] = self._union(self._code(place, 0, state) for state in states)
        return self._labels[key]

    def _pair_of(self, place: int, pairs: Pairs) -> Diagram:
        key = place, pairs
        if key not in self._labels:
            self._labels[key] = self._union(
                self._one_of(place, firsts) & self._code(place, 1, second)
                for second, firsts in self._befores(pairs)
            )
        return self._labels[key]

    def _befores(self, pairs: Pairs) -> list[tuple[Values, States]]:
        """Local states after a move, each with those it may be made of; at all places alike."""
        if pairs not in self._grouped:
            befores: dict[Values, set[Values]] = {}
            for first, second in pairs:
                # A move may make of a local state one that never occurs, if it is never taken
                # beside that local state: no reachable row is related by such a pair.
                if second in self._codes:
                    befores.setdefault(second, set()).add(first)
            self._grouped[pairs] = [(one, frozenset(firsts)) for one, firsts in befores.items()]
        return self._grouped[pairs]

    def _code(self, place: int, moved: int, local: Values) -> Diagram:
        """A secondary is in a local state: before the move (0) or after it (1)."""
        key = place, moved, local
        if key not in self._coded:
            code, diagram = self._codes[local], self.all
            # From the last variable up, so that each conjunction adds one node on top.
            for bit in reversed(range(self._bits)):
                # Before and after side by side: where most secondaries keep their state, a relation
                # has few nodes.
                number = 2 * (place * self._bits + bit) + moved
                make = self._manager.var if code >> bit & 1 else self._manager.not_var
                diagram = make(number) & diagram
            self._coded[key] = diagram
        return self._coded[key]

    def _cube(self, moved: int) -> Diagram:
        cube = self.all
        for bit in reversed(range(self._bits * len(self._places))):
            cube = self._manager.var(2 * bit + moved) & cube
        return cube

    def _union(self, diagrams: Iterable[Diagram]) -> Diagram:
        union = self.none
        for diagram in diagrams:
            union = union | diagram
        return union
