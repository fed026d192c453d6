# SPDX-License-Identifier: GPL-2.0-or-later
"""What was read of images, as ``staleline/kernel/1``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from staleline.kernel.reading.imagereport import ImageReport

__all__ = ["kernel_document", "unknowns"]


def kernel_document(reports: Sequence[ImageReport]) -> dict[str, Any]:
    """The JSON document; an image that could not be read has an error and nothing else."""
    return {
        "schema": "staleline/kernel/1",
        "images": [_image_document(report) for report in reports],
    }


def _image_document(report: ImageReport) -> dict[str, Any]:
    machine = report.on_machine
    return {
        "image": report.image,
        "error": report.error,
        **dict(report.document or {}),
        "on_snapshot": None if machine is None else machine["decisions"],
        "what_if": None if machine is None else machine["what_if"],
        "possibilities": [] if machine is None else machine["possibilities"],
        "unknown": unknowns(report),
    }


def unknowns(report: ImageReport) -> list[str]:
    """Everything that could not be established, each once."""
    found = list(report.document["unknown"]) if report.document is not None else []
    machine = report.on_machine["unknown"] if report.on_machine is not None else []
    return list(dict.fromkeys((*found, *machine)))
