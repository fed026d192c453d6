# SPDX-License-Identifier: GPL-2.0-or-later
"""What was read of images in an earlier run, from the JSON that it wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

from staleline.errors import PolicyError, UsageError
from staleline.inputfile import read_input
from staleline.kernel.reading.document import ImageDocument
from staleline.kernel.reading.imagereport import ImageReport
from staleline.kernel.reading.rule_json import from_document
from staleline.policy.catalogue import series_of

__all__ = ["earlier_reports", "is_earlier_run", "same_flavour", "unused_of"]

#: Of thousands of images, some 100 KiB each.
_LARGEST = 1 << 30
#: Images that a message names.
_NAMED = 3
#: A version and what distributions put behind it: what is left is the flavour.
_VERSION = re.compile(r"^[\d.]+([-+~._](deb|rc|bpo|ubuntu|fc|el)?\d[\w.~]*)*")


def is_earlier_run(file: str) -> bool:
    """Does it begin as JSON does?"""
    try:
        with open(file, "rb") as opened:
            return opened.read(16).lstrip().startswith(b"{")
    except OSError:
        return False


def earlier_reports(file: str) -> list[ImageReport]:
    """The images of an earlier run, of ``staleline kernel --json`` or ``--format jsonl``.

    Raises:
        UsageError: It cannot be read, or is something else.
    """
    text = read_input(file, UsageError, limit=_LARGEST, do="give an earlier run")
    try:
        reports = [
            ImageReport(entry["image"], cast("ImageDocument", entry))
            for document in _documents(text.decode("utf-8", "replace"))
            for entry in document["images"]
            # Read for what is raised of an entry that is none.
            if entry["error"] is None and from_document(entry)
        ]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, PolicyError):
        raise UsageError(
            "not what `staleline kernel --json` writes", where=file, do="write it again"
        ) from None
    if not reports:
        raise UsageError("no image was read then", where=file, do="give another run")
    return reports


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """One, or several one after the other."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        if document["schema"] != "staleline/kernel/1":
            raise ValueError(document["schema"])
        yield document
        while at < len(text) and text[at].isspace():
            at += 1


def same_flavour(report: ImageReport, earlier: Sequence[ImageReport]) -> ImageReport | None:
    """The earlier image of the same series and flavour; the last of several."""
    # Whatever its version: 6.12.117+deb13-cloud-amd64 is compared with 6.12.100+deb13-cloud-amd64.
    wanted = _flavour(report)
    return next((one for one in reversed(earlier) if _flavour(one) == wanted), None)


def unused_of(earlier: Sequence[ImageReport], used: Collection[ImageReport | None]) -> str:
    """Which series and flavours of then are in no comparison, in words; "" if each is in one."""
    flavours = {_flavour(one) for one in used if one is not None}
    names = dict.fromkeys(one.image for one in earlier if _flavour(one) not in flavours)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(list(names)[:_NAMED]) + more


def _flavour(report: ImageReport) -> tuple[object, ...]:
    release = (report.document and report.document["release"]) or ""
    return series_of(release), _VERSION.sub("", release)
