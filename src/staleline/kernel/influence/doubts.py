# SPDX-License-Identifier: GPL-2.0-or-later
"""What the sites of an image depend on beside the listed facts, found out while it is run.

On a site that asks something else no command answers, whatever this machine would make it do: the
run shows the answer for the value that the image, or the emulated machine, happens to have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from staleline.kernel.emulator.memory import lay_out
from staleline.printable import printable
from staleline.vocabulary import Site
from staleline.workers import AsideError, aside

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["Doubts", "doubts_aside"]

#: Site -> one sentence for each thing that its decision depends on and no fact sets.
Doubts = Mapping[Site, tuple[str, ...]]


def doubts_aside(image: KernelImage) -> Callable[[], Doubts]:
    """Begin to look, in other processes; no thread may run in this one.

    Returns:
        Waits for what was found; to be called once.
    """
    # Before the fork, so that no process does it again.
    lay_out(image)
    wait_for_doubts = aside(partial(_doubts, image))

    def result() -> Doubts:
        try:
            return wait_for_doubts()
        except AsideError as error:
            reason = f"what else the decision depends on could not be tried: {error}"
            return dict.fromkeys(Site, (reason,))

    return result


def _doubts(image: KernelImage) -> Doubts:
    # Nobody else needs the searches.
    from staleline.kernel.influence.dependencies import dependencies  # noqa: PLC0415
    from staleline.kernel.influence.on_the_way import with_way  # noqa: PLC0415
    from staleline.kernel.influence.second_ways import second_ways_aside  # noqa: PLC0415

    with_second_ways = second_ways_aside(image)
    unlisted = with_way(image, dependencies(image, side_by_side=True).unlisted)
    unlisted = with_second_ways(unlisted)
    return {site: tuple(map(printable, reasons)) for site, reasons in unlisted.items() if reasons}
