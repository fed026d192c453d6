# SPDX-License-Identifier: GPL-2.0-or-later
"""What was read of an image as plain values: what is kept, printed as JSON and shown.

The shape is the published schema's (schemas/kernel-1.json), which says what each field means.
"""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = [
    "AfterFlushDocument",
    "AsleepDocument",
    "ImageDocument",
    "ImageRuleDocument",
    "InventoryDocument",
    "NearestDocument",
    "OfflineWayDocument",
    "PlaceDocument",
    "RuleDocument",
    "StoreDocument",
    "SurroundingsDocument",
    "with_surroundings",
]


class RuleDocument(TypedDict):
    """When something happens; `condition` is an expression of the policy language."""

    condition: str | None
    reads: list[str]
    equals: list[str]
    unknown: list[str]


class StoreDocument(TypedDict):
    """What a CPU stores after its last WBINVD; addresses in hexadecimal."""

    line: str
    code: str
    address: str
    physical: str
    size: int
    through: str
    fate: str


class AfterFlushDocument(TypedDict):
    """What a site stores after its WBINVD, and when a line is left behind dirty."""

    leaves_behind: str | None
    stores: list[StoreDocument]


class AsleepDocument(TypedDict):
    """What a CPU has done when it sleeps; null where it is not known whether it flushed."""

    flushes: bool | None
    unknown: str | None
    stores: list[StoreDocument]


class OfflineWayDocument(TypedDict):
    """A way in which a CPU goes offline."""

    way: str
    by_mwait: bool
    asleep: AsleepDocument
    woken: AsleepDocument | None


class NearestDocument(TypedDict):
    """The catalogue policy that agrees with an image at most sites, but not at all."""

    policy: str
    same: list[str]
    other: list[str]


class PlaceDocument(TypedDict):
    """A place in the code that executes WBINVD or gets to it; null where in no list."""

    function: str
    address: str
    reach: str
    callee: str | None
    keeps_lines: bool
    role: str | None
    phase: str | None
    when: str | None
    kexec: str | None
    source: str | None


class InventoryDocument(TypedDict):
    """Every such place of an image."""

    places: list[PlaceDocument]
    undecided: list[str]


class SurroundingsDocument(TypedDict):
    """What is found out of an image besides the rule that its truth table shows.

    What a site depends on, and what of it the table is not over, are by site; `not_varied` is
    by input: what could not be tried, and how the code failed when it was. Ways of going offline
    are by vendor of the CPU.
    """

    inventory: InventoryDocument
    offline: dict[str, list[OfflineWayDocument]]
    inputs: dict[str, list[str]]
    unlisted: dict[str, list[str]]
    not_varied: dict[str, str]


class ImageRuleDocument(TypedDict):
    """The rule of one image, independent of any machine."""

    sha256: str
    member: str | None
    package: str | None
    version: str | None
    release: str | None
    banner: str | None
    build_id: str | None
    policy: str | None
    equals: list[str]
    title: str | None
    bugs: list[str]
    nearest: NearestDocument | None
    lacks: list[str]
    sites: dict[str, RuleDocument]
    after_flush: dict[str, AfterFlushDocument]
    crash_relocate_kernel: RuleDocument | None
    encrypts: RuleDocument
    reported_stopped: str | None
    runs: int
    truth_table: list[dict[str, Any]]
    unknown: list[str]


class ImageDocument(ImageRuleDocument):
    """One image, independent of any machine."""

    inventory: InventoryDocument
    offline: dict[str, list[OfflineWayDocument]]
    inputs: dict[str, list[str]]
    not_varied: dict[str, str]


def with_surroundings(
    document: ImageRuleDocument, surroundings: SurroundingsDocument
) -> ImageDocument:
    """Both as one: a site that depends on what the table does not vary has an unknown rule."""
    whole: ImageDocument = {
        **document,
        "inventory": surroundings["inventory"],
        "offline": surroundings["offline"],
        "inputs": surroundings["inputs"],
        "not_varied": surroundings["not_varied"],
        "sites": {
            site: _doubted(rule, surroundings["unlisted"].get(site, []))
            for site, rule in document["sites"].items()
        },
    }
    reasons = [reason for several in surroundings["unlisted"].values() for reason in several]
    # Which rule an image carries is known by all of its sites, or is not.
    if reasons:
        whole |= {"policy": None, "equals": [], "title": None, "bugs": [], "nearest": None}
        whole["unknown"] = [*document["unknown"], *reasons]
    return whole


def _doubted(rule: RuleDocument, reasons: list[str]) -> RuleDocument:
    if not reasons:
        return rule
    unknown = [*rule["unknown"], *reasons]
    return {**rule, "condition": None, "equals": [], "unknown": unknown}
