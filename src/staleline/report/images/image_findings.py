# SPDX-License-Identifier: GPL-2.0-or-later
"""What was read of an image, as findings: what its kernel does, never a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from staleline.kernel.boot.decision import Fate
from staleline.report.formats.findings import LEFT_BEHIND, Finding, Findings, Level
from staleline.report.images.kernel_json import unknowns
from staleline.report.words.explanations import bug_id
from staleline.report.words.words import left_words
from staleline.vocabulary import ReportOrder, Site

if TYPE_CHECKING:
    from staleline.kernel.reading.document import ImageDocument
    from staleline.kernel.reading.imagereport import ImageReport

__all__ = ["NO_RULE", "image_findings"]

_RACE = "reported-before-flush"
NO_RULE = "not in the catalogue"
"""Instead of a rule's name."""


def image_findings(report: ImageReport) -> Findings:
    """The findings of one image."""
    document = report.document
    release = None if document is None else document["release"]
    return Findings(
        subject=report.image,
        kernel=release or report.image,
        kernel_evidence="read by running the image's own code",
        files=(report.image,),
        by_path={},
        handovers=(),
        other=tuple(_findings(report)),
        asked={} if document is None else _identity(document),
    )


def _identity(document: ImageDocument) -> dict[str, str]:
    """What tells an image from every other, as far as it is known."""
    identity = {
        "rule": document["policy"] or NO_RULE,
        "release": document["release"],
        "build_id": document["build_id"],
        "package": document["package"],
        "version": document["version"],
    }
    return {name: text for name, text in identity.items() if text is not None}


def _findings(report: ImageReport) -> Iterator[Finding]:
    if report.error is not None:
        yield Finding("image-unreadable", Level.ERROR, report.error)
    if report.document is not None:
        yield from _of_rule(report.document)
        yield from _of_inventory(report.document)
    for reason in unknowns(report):
        yield Finding("image-not-read", Level.WARNING, reason)


def _of_rule(document: ImageDocument) -> Iterator[Finding]:
    if document["policy"] is not None:
        message = f"carries {document['policy']}: {document['title']}"
        yield Finding("rule-carried", Level.NOTE, message)
    bugs = {bug_id(bug): bug for bug in document["bugs"]}
    if document["reported_stopped"] == ReportOrder.BEFORE_FLUSH:
        # Once, though a bug of its rule may be the same.
        bugs[_RACE] = "a secondary reports itself stopped, then flushes"
    for name, bug in bugs.items():
        sites = (Site.STOP_THIS_CPU,) if name == _RACE else ()
        yield Finding(name, Level.WARNING, bug, sites)
    for site, found in document["after_flush"].items():
        for store in found["stores"]:
            if store["fate"] == Fate.LEFT_BEHIND:
                words = left_words(site, store["line"], store["code"], store["through"])
                yield Finding(LEFT_BEHIND, Level.WARNING, words, (Site(site),))
    if document["policy"] is None and document["nearest"] is not None:
        message = f"no policy of the catalogue; nearest is {document['nearest']['policy']}"
        yield Finding("rule-not-in-catalogue", Level.NOTE, message)


def _of_inventory(document: ImageDocument) -> Iterator[Finding]:
    places = document["inventory"]["places"]
    for name in dict.fromkeys(place["function"] for place in places if place["role"] is None):
        yield Finding("wbinvd-in-no-list", Level.WARNING, f"WBINVD in {name}")
