# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read of an image besides its rule: inputs that no fact sets, and every WBINVD."""

from __future__ import annotations

from typing import cast

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.dependencies import dependencies
from staleline.kernel.influence.on_the_way import with_way
from staleline.kernel.influence.second_ways import second_ways_aside
from staleline.kernel.inventory.inventory import wbinvd_inventory
from staleline.kernel.reading.document import SurroundingsDocument
from staleline.kernel.reading.inventory_json import inventory_document
from staleline.printable import printable_values

__all__ = ["read_surroundings"]


def read_surroundings(image: KernelImage) -> SurroundingsDocument:
    """Look for inputs of the sites that no fact sets, and for every WBINVD."""
    with_second_ways = second_ways_aside(image)
    found = dependencies(image)
    unlisted = with_second_ways(with_way(image, found.unlisted))
    document: SurroundingsDocument = {
        "inventory": inventory_document(wbinvd_inventory(image)),
        "inputs": {site: list(names) for site, names in found.influences.items()},
        "unlisted": {site: list(reasons) for site, reasons in unlisted.items()},
        "not_varied": dict(found.not_varied),
    }
    return cast("SurroundingsDocument", printable_values(document))
