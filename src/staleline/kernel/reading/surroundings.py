# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read of an image besides its rule: inputs that no fact sets, every WBINVD, and sleep."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from staleline.kernel.boot.rawfacts import ENCRYPTING_HOST, INTEL_HOST
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.dependencies import dependencies
from staleline.kernel.influence.on_the_way import with_way
from staleline.kernel.influence.second_ways import second_ways_aside
from staleline.kernel.inventory.inventory import wbinvd_inventory
from staleline.kernel.reading.document import OfflineWayDocument, SurroundingsDocument
from staleline.kernel.reading.inventory_json import inventory_document
from staleline.kernel.reading.offlinedocument import offline_way_document
from staleline.kernel.sites.runner import KernelReader
from staleline.printable import printable_values

__all__ = ["read_surroundings"]


def read_surroundings(image: KernelImage) -> SurroundingsDocument:
    """Look for inputs of the sites that no fact sets, and for every WBINVD."""
    # Begun first, as it runs beside all that follows.
    with_second_ways = second_ways_aside(image)
    inputs = dependencies(image)
    unlisted = with_second_ways(with_way(image, inputs.unlisted))
    document: SurroundingsDocument = {
        "inventory": inventory_document(wbinvd_inventory(image)),
        "offline": _offline(image),
        "inputs": {site: list(names) for site, names in inputs.influences.items()},
        "unlisted": {site: list(reasons) for site, reasons in unlisted.items()},
        "not_varied": dict(inputs.not_varied),
    }
    return cast("SurroundingsDocument", printable_values(document))


def _offline(image: KernelImage) -> dict[str, list[OfflineWayDocument]]:
    """On a machine of each vendor that has two aliases of a line, or may have."""
    reader = KernelReader(image)
    return {
        facts.vendor: list(map(offline_way_document, reader.offline_ways(raw_machine(facts))))
        for facts in (ENCRYPTING_HOST, replace(ENCRYPTING_HOST, vendor="HygonGenuine"), INTEL_HOST)
    }
