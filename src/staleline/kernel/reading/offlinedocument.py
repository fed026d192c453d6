# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways of going offline as plain values of JSON, and back."""

from __future__ import annotations

from staleline.kernel.boot.decision import OfflineWay, SiteDecision
from staleline.kernel.reading.document import AsleepDocument, OfflineWayDocument
from staleline.kernel.reading.storedocument import store_document, store_of

__all__ = ["offline_way_document", "offline_way_of"]


def offline_way_document(way: OfflineWay) -> OfflineWayDocument:
    """The way by its name, and what a CPU has done when it sleeps, or was woken and halts."""
    return {
        "way": way.name,
        "by_mwait": way.by_mwait,
        "asleep": _asleep_document(way.asleep),
        "woken": None if way.woken is None else _asleep_document(way.woken),
    }


def _asleep_document(decision: SiteDecision) -> AsleepDocument:
    return {
        "flushes": decision.flushes,
        "unknown": decision.unknown,
        "stores": [store_document(store) for store in decision.stores],
    }


def offline_way_of(document: OfflineWayDocument) -> OfflineWay:
    """The value that `offline_way_document` wrote."""
    woken = document["woken"]
    return OfflineWay(
        name=document["way"],
        asleep=_asleep(document["asleep"]),
        woken=None if woken is None else _asleep(woken),
        by_mwait=document["by_mwait"],
    )


def _asleep(document: AsleepDocument) -> SiteDecision:
    stores = tuple(map(store_of, document["stores"]))
    return SiteDecision(document["flushes"], document["unknown"], stores)
