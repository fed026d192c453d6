# SPDX-License-Identifier: GPL-2.0-or-later
"""What was read of an image as plain values: what is kept, printed as JSON and shown.

The shape is the published schema's (schemas/kernel-1.json), which says what each field means.
"""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = [
    "ImageDocument",
    "InventoryDocument",
    "NearestDocument",
    "PlaceDocument",
    "RuleDocument",
]


class RuleDocument(TypedDict):
    """When something happens; `condition` is an expression of the policy language."""

    condition: str | None
    reads: list[str]
    equals: list[str]
    unknown: list[str]


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


class ImageDocument(TypedDict):
    """One image, independent of any machine."""

    sha256: str
    member: str | None
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
    crash_relocate_kernel: RuleDocument | None
    encrypts: RuleDocument
    reported_stopped: str | None
    inventory: InventoryDocument
    runs: int
    truth_table: list[dict[str, Any]]
    unknown: list[str]
