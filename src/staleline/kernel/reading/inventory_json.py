# SPDX-License-Identifier: GPL-2.0-or-later
"""Every WBINVD of an image as plain values of JSON."""

from __future__ import annotations

from staleline.kernel.inventory.inventory import FlushPlace, Inventory
from staleline.kernel.reading.document import InventoryDocument, PlaceDocument

__all__ = ["inventory_document"]


def inventory_document(inventory: Inventory) -> InventoryDocument:
    """Addresses are written in hexadecimal."""
    return {
        "places": [_place_document(place) for place in inventory.places],
        "undecided": [f"{address:#x}" for address in inventory.undecided],
    }


def _place_document(place: FlushPlace) -> PlaceDocument:
    role = place.role
    return {
        "function": place.function,
        "address": f"{place.address:#x}",
        "reach": place.reach,
        "callee": place.callee,
        "keeps_lines": place.keeps_lines,
        "role": None if role is None else role.name,
        "phase": None if role is None else role.phase,
        "when": None if role is None else role.when,
        "kexec": None if role is None else role.kexec,
        "source": None if role is None else role.source,
    }
