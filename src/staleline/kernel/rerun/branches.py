# SPDX-License-Identifier: GPL-2.0-or-later
"""Static branches among what was executed, each as a change of the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from staleline.kernel.image.staticbranches import static_branches
from staleline.kernel.rerun.changes import Memory

if TYPE_CHECKING:
    from staleline.kernel.boot.places import Places
    from staleline.kernel.image.image import KernelImage

__all__ = ["passed_branches"]


def passed_branches(
    image: KernelImage, places: Places, executed: Iterable[tuple[int, int]]
) -> Iterator[Memory]:
    """Those among what was executed, each changed to look the other way round."""
    for branch in static_branches(image, executed):
        cell = branch.address, len(branch.other)
        yield Memory(cell, branch.other, f"static key {places.code(branch.key)}", True)
