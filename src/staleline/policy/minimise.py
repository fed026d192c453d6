# SPDX-License-Identifier: GPL-2.0-or-later
"""The shortest disjunction of conjunctions that tells some machines from others.

Two-level minimisation after Quine and McCluskey, but over machines instead of all combinations of
literals: a set of machines is an integer with one bit per machine, and two conjunctions that hold
on the same machines are the same.

>>> from staleline.policy.expression import AtomIs
>>> rows = {"sme_supported": 0b1100, "hypervisor": 0b1010}
>>> literals = {AtomIs(name): mask for name, mask in rows.items()}
>>> str(minimise(on=0b0100, off=0b1011, literals=literals))
'sme_supported and not hypervisor'
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from staleline.policy.expression import Expression, TruthValue
from staleline.policy.literals import conjunction_of, disjunction_of, is_positive, opposite, rank

__all__ = ["minimise"]

#: Prices: the fewest literals first, then the fewest denials, then the vocabulary's order.
_LITERAL = 1_000_000
_DENIAL = 1_000
#: Bounds that no rule of a kernel comes near; beyond them the answer is right, not shortest.
_MAX_CONJUNCTIONS = 20_000
_MAX_STEPS = 5_000


@dataclass(frozen=True, slots=True, order=True)
class _Conjunction:
    """Literals (indices, ascending) that hold together on `rows`, and what they cost."""

    cost: int
    literals: tuple[int, ...]
    rows: int


def minimise(*, on: int, off: int, literals: Mapping[Expression, int]) -> Expression | None:
    """A shortest expression that holds on all machines of `on` and on none of `off`.

    Args:
        on: One bit per machine.
        off: Likewise; machines in neither do not matter.
        literals: Each with the machines on which it holds; both signs may be used.

    Returns:
        The expression, always the same for the same question; None if the literals cannot
        tell the two sets apart.
    """
    if not on or not off:
        return TruthValue(bool(on))
    # What no machine can have does not occur among them, and so is nobody's care.
    signed = _Signed.of(literals, on | off)
    # A class with machines of both stays together whatever is joined: no expression parts it.
    if any(block & on and block & off for block in _told_apart(on | off, signed.rows)):
        return None
    return signed.expression(_cheapest_cover(on, _implicants(signed, on, off)))


@dataclass(frozen=True, slots=True)
class _Signed:
    """Every literal and its denial, with its machines and its price."""

    texts: tuple[Expression, ...]
    rows: tuple[int, ...]
    prices: tuple[int, ...]

    @classmethod
    def of(cls, literals: Mapping[Expression, int], machines: int) -> _Signed:
        plain = sorted(literals, key=rank)
        texts = (*plain, *map(opposite, plain))
        # Denials are what is left of all machines, so that both signs are over those that there
        # are.
        rows = [literals[text] & machines for text in plain]
        prices = [
            _LITERAL + index + (0 if is_positive(text) else _DENIAL)
            for index, text in enumerate(texts)
        ]
        return cls(texts, (*rows, *(machines & ~mask for mask in rows)), tuple(prices))

    def extended(self, conjunction: _Conjunction, index: int) -> _Conjunction:
        return _Conjunction(
            conjunction.cost + self.prices[index],
            tuple(sorted((*conjunction.literals, index))),
            conjunction.rows & self.rows[index],
        )

    def expression(self, cover: Iterable[_Conjunction]) -> Expression:
        """The disjunction, with what all its members share written once."""
        members = [set(conjunction.literals) for conjunction in sorted(cover)]
        shared = set.intersection(*members)
        rest = disjunction_of(self._all_of(member - shared) for member in members)
        # With one member all of it is shared, and nothing is left for a disjunction.
        if len(members) == 1 or not shared:
            return rest if not shared else self._all_of(shared)
        return conjunction_of((*(self.texts[index] for index in self._in_order(shared)), rest))

    def _all_of(self, indices: set[int]) -> Expression:
        return conjunction_of(self.texts[index] for index in self._in_order(indices))

    def _in_order(self, indices: set[int]) -> list[int]:
        return sorted(indices, key=lambda index: rank(self.texts[index]))


def _told_apart(machines: int, masks: Iterable[int]) -> list[int]:
    """Classes of machines on which the same of the masks hold."""
    blocks = [machines]
    for mask in masks:
        halves = (half for block in blocks for half in (block & mask, block & ~mask))
        blocks = [half for half in halves if half]
    return blocks


def _implicants(signed: _Signed, on: int, off: int) -> list[_Conjunction]:
    """Conjunctions that hold on machines of `on` only: among them a cheapest cover's."""
    implicants: list[_Conjunction] = []
    seen = {on | off}
    level = [_Conjunction(0, (), on | off)]
    while level and len(seen) < _MAX_CONJUNCTIONS:
        longer = _one_longer(signed, level, on, seen)
        seen.update(conjunction.rows for conjunction in longer)
        implicants += (conjunction for conjunction in longer if not conjunction.rows & off)
        # An implicant with one literal more holds on fewer machines, and costs more.
        level = [conjunction for conjunction in longer if conjunction.rows & off]
    return implicants + list(_completion(signed, on, off, implicants))


def _one_longer(
    signed: _Signed, level: Sequence[_Conjunction], on: int, seen: set[int]
) -> list[_Conjunction]:
    """The cheapest conjunction with one more literal for every set of machines not yet met."""
    cheapest: dict[int, _Conjunction] = {}
    for conjunction in level:
        for index, mask in enumerate(signed.rows):
            rows = conjunction.rows & mask
            # Two conjunctions that hold on the same machines are the same.
            if rows in seen or not rows & on:
                continue
            longer = signed.extended(conjunction, index)
            if rows not in cheapest or longer < cheapest[rows]:
                cheapest[rows] = longer
    return list(cheapest.values())


def _completion(
    signed: _Signed, on: int, off: int, implicants: Iterable[_Conjunction]
) -> Iterator[_Conjunction]:
    """For machines that the bounded search left uncovered: irredundant conjunctions."""
    for conjunction in implicants:
        on &= ~conjunction.rows
    while on:
        machine = on & -on
        holding = [index for index, mask in enumerate(signed.rows) if mask & machine]
        # The dearest are tried first, so that the cheapest stay.
        for index in sorted(holding, key=lambda index: -signed.prices[index]):
            rest = [other for other in holding if other != index]
            if not _rows(signed, rest, off):
                holding = rest
        cost = sum(signed.prices[index] for index in holding)
        rows = _rows(signed, holding, on | off)
        yield _Conjunction(cost, tuple(holding), rows)
        on &= ~rows


def _rows(signed: _Signed, indices: Iterable[int], machines: int) -> int:
    for index in indices:
        machines &= signed.rows[index]
    return machines


def _cheapest_cover(on: int, implicants: list[_Conjunction]) -> tuple[_Conjunction, ...]:
    """A set of implicants that together hold on all of `on`, at the lowest sum of costs."""
    useful = _undominated(on, implicants)
    # One machine stands for all on which the same implicants hold: `block & -block` is its bit.
    classes = [block & -block for block in _told_apart(on, (option.rows for option in useful))]
    options = {row: [option for option in useful if option.rows & row] for row in classes}
    search = _Cover({row: options[row] for row in sorted(classes, key=lambda r: len(options[r]))})
    search.extend((), 0, sum(classes))
    return search.best


def _undominated(on: int, implicants: list[_Conjunction]) -> list[_Conjunction]:
    """Without those that a cheaper one makes superfluous."""
    kept: list[_Conjunction] = []
    # The cheapest come first, so that whatever is kept is no dearer.
    for implicant in sorted(implicants):
        if all(implicant.rows & on & ~cheaper.rows for cheaper in kept):
            kept.append(implicant)
    return kept


@dataclass(slots=True)
class _Cover:
    """Branch and bound over the machine that the fewest implicants hold on.

    Attributes:
        options: Machine (one bit) -> implicants that hold on it, hardest machine first.
    """

    options: Mapping[int, Sequence[_Conjunction]]
    best: tuple[_Conjunction, ...] = ()
    _bound: int | None = None
    _steps: int = field(default=0)

    def extend(self, chosen: tuple[_Conjunction, ...], cost: int, left: int) -> None:
        """Try every way to go on that can still be cheaper than the best."""
        if self._bound is not None and (cost >= self._bound or self._steps >= _MAX_STEPS):
            return
        if not left:
            self.best, self._bound = chosen, cost
            return
        self._steps += 1
        hardest = next(row for row in self.options if row & left)
        # The cheapest per machine first: a good cover early cuts off most of what follows.
        for option in sorted(self.options[hardest], key=partial(_price_per_row, left=left)):
            self.extend((*chosen, option), cost + option.cost, left & ~option.rows)


def _price_per_row(option: _Conjunction, left: int) -> tuple[float, _Conjunction]:
    # The conjunction behind the price keeps the order, and so the answer, always the same.
    return (option.cost / (option.rows & left).bit_count(), option)
