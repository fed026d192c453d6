# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts of an image, in a few lines of JSON: ``staleline/kernel-brief/1``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from staleline.kernel.boot.decision import Fate
from staleline.report.images.kernel_json import unknowns
from staleline.report.words.explanations import bug_id

if TYPE_CHECKING:
    from staleline.kernel.reading.document import ImageDocument
    from staleline.kernel.reading.imagereport import ImageReport

__all__ = ["brief_document"]

#: So many reasons, and so long, that a document stays below 4 kB: an archive of thousands fits
#: into a table or a database.
_SHOWN, _LONGEST = 3, 240
_CUT = "…"


def brief_document(report: ImageReport) -> dict[str, Any]:
    """The JSON document; an image that could not be read has an error and nulls."""
    document, unknown = report.document, unknowns(report)
    return {
        "schema": "staleline/kernel-brief/1",
        "image": report.image,
        "error": None if report.error is None else _shortened(report.error),
        **(dict.fromkeys(_FIELDS) if document is None else _fields(document)),
        "unknown": [_shortened(reason) for reason in unknown[:_SHOWN]],
        "unknown_count": len(unknown),
    }


_FIELDS = (
    "sha256",
    "package",
    "version",
    "member",
    "release",
    "build_id",
    "rule",
    "nearest",
    "sites",
    "crash_relocate_kernel",
    "encrypts",
    "reported_stopped",
    "lacks",
    "bugs",
    "leaves_behind",
    "wbinvd_in_no_list",
)


def _fields(document: ImageDocument) -> dict[str, Any]:
    crash, nearest = document["crash_relocate_kernel"], document["nearest"]
    places = document["inventory"]["places"]
    fields = {
        "sha256": document["sha256"],
        "package": document["package"],
        "version": document["version"],
        "member": document["member"],
        "release": document["release"],
        "build_id": document["build_id"],
        "rule": document["policy"],
        "nearest": None if nearest is None else nearest["policy"],
        "sites": {site: _condition(rule["condition"]) for site, rule in document["sites"].items()},
        "crash_relocate_kernel": None if crash is None else _condition(crash["condition"]),
        "encrypts": _condition(document["encrypts"]["condition"]),
        "reported_stopped": document["reported_stopped"],
        "lacks": document["lacks"],
        "bugs": [bug_id(bug) for bug in document["bugs"]],
        "leaves_behind": [
            site
            for site, stored in document["after_flush"].items()
            if any(store["fate"] == Fate.LEFT_BEHIND for store in stored["stores"])
        ],
        "wbinvd_in_no_list": len({one["function"] for one in places if one["role"] is None}),
    }
    # Of images that could not be read the same columns are null.
    assert tuple(fields) == _FIELDS
    return fields


def _condition(text: str | None) -> str | None:
    return None if text is None else _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}{_CUT}"
