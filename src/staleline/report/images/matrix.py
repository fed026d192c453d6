# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels against rules: which rule each carries, as a whole or at some sites.

As text, and as ``staleline/matrix/1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from staleline.policy.catalogue import catalogue
from staleline.report.words.handovertable import Column, HandoverTable
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.reading.document import ImageDocument
    from staleline.kernel.reading.imagereport import ImageReport

__all__ = ["matrix_document", "print_matrix"]

_WHOLE, _NONE, _UNKNOWN = "=", "-", "?"
#: Few rules do anything in a crash, so that to be alike there tells nothing.
_TELLING = (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL)
#: What stands for a site at which the two decide alike.
_LETTERS = {Site.STOP_THIS_CPU: "S", Site.RELOCATE_KERNEL: "J", Site.CRASH_NMI_CALLBACK: "C"}


def matrix_document(reports: Sequence[ImageReport]) -> dict[str, Any]:
    """The JSON document; per image and rule, the sites at which they decide alike."""
    return {
        "schema": "staleline/matrix/1",
        "rules": list(catalogue()),
        "images": [
            {
                "image": report.image,
                "error": report.error,
                "release": report.document and report.document["release"],
                "version": report.document and report.document["version"],
                "build_id": report.document and report.document["build_id"],
                "equals": [] if report.document is None else report.document["equals"],
                "alike": {} if report.document is None else _alike(report.document),
                "unknown": [] if report.document is None else _unknown(report.document),
            }
            for report in reports
        ],
    }


def print_matrix(console: Console, reports: Sequence[ImageReport]) -> None:
    """A row per kernel and a column per rule that any of them carries somewhere.

    And one for what is unknown, which no column of a rule shows where there is nothing beside it.
    """
    documents = [report.document for report in reports if report.document is not None]
    rules = [name for name in catalogue() if any(_told(one).get(name) for one in documents)]
    columns = {name: [_cell(report.document, name) for report in reports] for name in rules}
    if any(report.document is None or _unknown(report.document) for report in reports):
        columns["unknown"] = [_unknown_sites(report.document) for report in reports]
    table = HandoverTable((Column("kernel", whole=True), *map(Column, columns)))
    for report, *cells in zip(reports, *columns.values(), strict=True):
        table.add(_name(report), *cells)
    console.print(table)
    console.print()
    letters = ", ".join(f"{letter} at {site}" for site, letter in _LETTERS.items())
    console.print(
        f"{_WHOLE} the same rule; only {letters}; {_NONE} nowhere; {_UNKNOWN} unknown somewhere"
    )


def _name(report: ImageReport) -> str:
    release = None if report.document is None else report.document["release"]
    return release or report.image


def _unknown_sites(document: ImageDocument | None) -> Text:
    if document is None:
        return Text("".join(_LETTERS.values()), "bold red")
    letters = "".join(_LETTERS[Site(site)] for site in _unknown(document))
    return Text(letters or _NONE, "bold yellow" if letters else "")


def _cell(document: ImageDocument | None, name: str) -> Text:
    if document is None:
        return Text(_UNKNOWN, "bold red")
    if name in document["equals"]:
        return Text(_WHOLE, "bold green")
    letters = "".join(_LETTERS[Site(site)] for site in _alike(document).get(name, ()))
    # What is unknown may be alike, too.
    unknown = _UNKNOWN if _unknown(document) else ""
    return Text(f"{letters}{unknown}" or _NONE, "bold yellow" if unknown else "")


def _alike(document: ImageDocument) -> dict[str, list[str]]:
    """Rule -> sites at which it decides as the image does; rules without any are left out."""
    alike: dict[str, list[str]] = {}
    for site, rule in document["sites"].items():
        for name in rule["equals"]:
            alike.setdefault(name, []).append(site)
    return alike


def _told(document: ImageDocument) -> dict[str, bool]:
    """Rules that it carries as a whole, or at a site at which rules differ much."""
    return {
        name: name in document["equals"] or any(site in _TELLING for site in sites)
        for name, sites in _alike(document).items()
    }


def _unknown(document: ImageDocument) -> list[str]:
    """Sites of which the rule is unknown."""
    rules = document["sites"]
    return [site for site in Site if site not in rules or rules[site]["condition"] is None]
