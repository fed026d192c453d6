# SPDX-License-Identifier: GPL-2.0-or-later
"""Stores after a flush as plain values of JSON, and back."""

from __future__ import annotations

from staleline.kernel.boot.decision import Fate, Store
from staleline.kernel.reading.document import StoreDocument
from staleline.vocabulary import Through

__all__ = ["store_document", "store_of"]


def store_document(store: Store) -> StoreDocument:
    """Addresses in hexadecimal."""
    return {
        "line": store.line,
        "code": store.code,
        "address": f"{store.address:#x}",
        "physical": f"{store.physical:#x}",
        "size": store.size,
        "through": store.through,
        "fate": store.fate,
    }


def store_of(document: StoreDocument) -> Store:
    """The value that `store_document` wrote."""
    return Store(
        address=int(document["address"], 16),
        physical=int(document["physical"], 16),
        size=document["size"],
        through=Through(document["through"]),
        line=document["line"],
        code=document["code"],
        fate=Fate(document["fate"]),
    )
