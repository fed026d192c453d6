# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies where sites read, on each of several machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from staleline.kernel.image.alternatives import passed_alternatives
from staleline.kernel.influence.guardinputs import FollowedTraces
from staleline.kernel.rerun.branches import passed_branches
from staleline.kernel.rerun.changes import Memory

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.boot.places import Places
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.rerun.reruns import Booted, Reruns
    from staleline.kernel.rerun.variation import Cell
    from staleline.vocabulary import Site

__all__ = ["RowStates"]


class RowStates:
    """What is where each site reads, in the state of each row."""

    def __init__(
        self, reruns: Reruns, machines: Sequence[RawMachine], sites: Sequence[Site]
    ) -> None:
        self._reruns = reruns
        self.rows = [reruns.boot(machine) for machine in machines]
        self._contents: dict[tuple[Site, Cell], list[bytes]] = {}
        self.branches: dict[Site, list[Memory]] = {site: [] for site in sites}
        self.patches: dict[Site, list[Memory]] = {site: [] for site in sites}
        self.traces = FollowedTraces(reruns.is_constant, reruns.text)
        for site in sites:
            for row, booted in enumerate(self.rows):
                self._look_at(site, booted, first=row == 0)
        # Once more over all rows: what one of them reads may lie unread in another.
        for booted in self.rows:
            for site in sites:
                reruns.restore(site, booted)
                for (where, cell), contents in self._contents.items():
                    if where is site:
                        contents.append(reruns.memory.read(*cell))

    def _look_at(self, site: Site, booted: Booted, *, first: bool) -> None:
        """What the site reads, and on the first row which branches it passes."""
        accesses = self._reruns.watched_site(site, booted)
        for cell in accesses.reads:
            self._contents.setdefault((site, cell), [])
        if first:
            image, places = self._reruns.image, self._reruns.places
            self.branches[site] = list(passed_branches(image, places, accesses.blocks))
            self.patches[site] = list(_passed_patches(image, places, accesses.blocks))

    def contents(self, site: Site, row: int) -> Iterator[tuple[Cell, bytes]]:
        """What a site reads on some row, and what is there on this one."""
        kept = self._contents.items()
        return ((cell, contents[row]) for (where, cell), contents in kept if where is site)

    def varied(self, site: Site, cell: Cell) -> int:
        """The bits that are not the same on all rows."""
        contents = self._contents.get((site, cell), [b""])
        first, *others = (int.from_bytes(content, "little") for content in contents)
        return reduce(or_, (first ^ other for other in others), 0)


def _passed_patches(
    image: KernelImage, places: Places, executed: Iterable[tuple[int, int]]
) -> Iterator[Memory]:
    """What a CPU feature decides in the code that was executed, as it would be patched."""
    linked = [(places.linked(address), size) for address, size in executed]
    for patch in passed_alternatives(image, linked):
        name = f"{patch} at {places.code(patch.address)}"
        yield Memory((patch.address, len(patch.code)), patch.code, name, is_code=True)
