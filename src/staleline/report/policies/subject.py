# SPDX-License-Identifier: GPL-2.0-or-later
"""What a rule is that was asked about: a policy, or an image with what tells it from others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from staleline.verdict.handover.readkernel import NamedRule

if TYPE_CHECKING:
    from staleline.kernel.reading.document import ImageDocument

__all__ = ["identity_lines", "image_fields", "subject_fields"]


def subject_fields(rule: NamedRule) -> dict[str, Any] | None:
    """For documents: null for a policy."""
    return None if rule.document is None else image_fields(rule.document, rule.given)


def image_fields(document: ImageDocument, file: str) -> dict[str, Any]:
    """What tells an image from every other."""
    return {
        "file": file,
        "sha256": document["sha256"],
        "release": document["release"],
        "build_id": document["build_id"],
        "package": document["package"],
        "version": document["version"],
        "member": document["member"],
        "rule": document["policy"],
    }


def identity_lines(rule: NamedRule) -> Iterator[tuple[str, str]]:
    """What there is to say of it, as (label, text)."""
    document = rule.document
    if document is None:
        yield "rule", rule.title
        return
    name = document["policy"]
    yield "rule", f"{name}: {rule.title}" if name is not None else "not in the catalogue"
    if document["package"] is not None:
        yield "package", document["package"]
    if document["version"] is not None:
        yield "version", document["version"]
    yield "build ID", document["build_id"] or "none"
    yield "evidence", rule.kernel.evidence
