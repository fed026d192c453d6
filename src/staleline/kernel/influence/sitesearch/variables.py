# SPDX-License-Identifier: GPL-2.0-or-later
"""Which bits of a variable matter to a site by themselves, beyond those that the facts set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from staleline.kernel.influence.sitesearch.influences import Influence
from staleline.kernel.rerun.changes import Memory, variation
from staleline.kernel.rerun.fixedinputs import fixed_bits

if TYPE_CHECKING:
    from staleline.kernel.influence.sitesearch.trials import Trials
    from staleline.kernel.rerun.fixedinputs import Fixed
    from staleline.kernel.rerun.variation import Cell

__all__ = ["Variables"]

#: A single bit of a variable decides, or the number as a whole: then most of its bits do.
_MOST: Final = 0.5
_SAMPLE: Final = 16


class Variables:
    """Those that a site reads, in the state of one row.

    Args:
        cells: Them, by where they lie.
        varied: The bits of one that are not the same on all rows.
        fixed: Inputs that nothing but the kernel sets.
        trials: What the site does with one changed.
    """

    def __init__(
        self,
        cells: Mapping[Cell, Memory],
        varied: Callable[[Cell], int],
        fixed: Mapping[str, Fixed],
        trials: Trials,
    ) -> None:
        self._cells, self._varied, self._fixed, self._trials = cells, varied, fixed, trials
        self._looked_at: dict[Cell, Influence] = {}
        self._turned_over: dict[tuple[Cell, bytes], bool] = {}

    def of(self, memory: Memory) -> Influence:
        """Is it explained, and which of its bits is not?"""
        if memory.cell not in self._looked_at:
            self._looked_at[memory.cell] = self._look_at(memory)
        return self._looked_at[memory.cell]

    def _look_at(self, memory: Memory) -> Influence:
        """Do the rows vary every bit of it that matters by itself?"""
        cell, name, initial = memory.cell, str(memory), memory.content
        varied = self._varied(cell)
        if not varied:
            return Influence(name, explained=False, initial=initial)
        kept = varied | fixed_bits(self._fixed, name, int.from_bytes(initial, "little"))
        others = [bit for bit in range(8 * cell[1]) if not kept >> bit & 1]
        if not self._any_matters(cell, others) or self._most_matter(cell, others):
            return Influence(name, explained=True, initial=initial)
        bits = tuple(bit for bit in others if self._matters(cell, [bit]))
        return Influence(name, explained=False, initial=initial, bits=bits)

    def _any_matters(self, cell: Cell, bits: Sequence[int]) -> bool:
        return any(self._matters(cell, some) for some in _divisions(bits))

    def _most_matter(self, cell: Cell, bits: Sequence[int]) -> bool:
        sample = bits[:: max(1, len(bits) // _SAMPLE)]
        matter = 0
        for left, bit in zip(range(len(sample), 0, -1), sample, strict=True):
            if matter > _MOST * len(sample) or matter + left <= _MOST * len(sample):
                break  # the others cannot turn it over
            matter += self._matters(cell, [bit])
        return matter > _MOST * len(sample)

    def _matters(self, cell: Cell, bits: Sequence[int]) -> bool:
        """Does turning these bits over change the decision? No bits do not."""
        if not bits:
            return False
        content = int.from_bytes(self._cells[cell].content, "little")
        for bit in bits:
            content ^= 1 << bit
        other = content.to_bytes(cell[1], "little")
        if (cell, other) not in self._turned_over:
            self._turned_over[cell, other] = self._trials.changes(
                variation([Memory(cell, other, "")])
            )
        return self._turned_over[cell, other]


def _divisions(bits: Sequence[int]) -> Iterator[Sequence[int]]:
    """All of them, and halves such that any two bits are apart in one."""
    yield bits
    # A bit that matters may do so only as long as some other bit is left alone.
    for digit in range(max(bits, default=0).bit_length()):
        for value in (0, 1):
            yield [bit for bit in bits if bit >> digit & 1 == value]
