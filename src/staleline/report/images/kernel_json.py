# SPDX-License-Identifier: GPL-2.0-or-later
"""What was read of images, as ``staleline/kernel/1``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from staleline.kernel.reading.document import ImageDocument

__all__ = ["ReportedImage", "kernel_document", "unknowns"]


class ReportedImage(Protocol):
    """One image, as far as it was read: a document, or an error."""

    @property
    def image(self) -> str:
        """The file, as it was given."""

    @property
    def document(self) -> ImageDocument | None:
        """What was read of it."""

    @property
    def on_machine(self) -> dict[str, Any] | None:
        """What it does on the snapshot's machine (`staleline.report.images.machine_json`)."""

    @property
    def error(self) -> str | None:
        """Why it was not read."""


def kernel_document(reports: Sequence[ReportedImage]) -> dict[str, Any]:
    """The JSON document; an image that could not be read has an error and nothing else."""
    return {
        "schema": "staleline/kernel/1",
        "images": [_image_document(report) for report in reports],
    }


def _image_document(report: ReportedImage) -> dict[str, Any]:
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


def unknowns(report: ReportedImage) -> list[str]:
    """Everything that could not be established, each once."""
    found = list(report.document["unknown"]) if report.document is not None else []
    machine = report.on_machine["unknown"] if report.on_machine is not None else []
    return list(dict.fromkeys((*found, *machine)))
