# SPDX-License-Identifier: GPL-2.0-or-later
"""An XML document of libvirt, read element by element.

A document type declaration is refused, so no entity is ever defined or expanded.
"""

from __future__ import annotations

from xml.parsers import expat

from staleline.errors import EvidenceError

__all__ = ["Elements", "read_elements"]


class Elements:
    """What is to be done at each element; here nothing."""

    def start(self, name: str, attributes: dict[str, str], line: int) -> None:
        """An element begins."""

    def text(self, data: str) -> None:
        """A piece of the text within one."""

    def end(self, name: str) -> None:
        """An element ends."""


def read_elements(text: str, where: str, do: str, elements: Elements) -> None:
    """Tell `elements` of all in `text`, in order.

    Raises:
        EvidenceError: The text is not well-formed, or declares a document type.
    """
    parser = expat.ParserCreate(encoding="utf-8")

    def refuse_doctype(*_: object) -> None:
        line = parser.CurrentLineNumber
        raise EvidenceError(
            "has a document type declaration", where=f"{where}:{line}", do="remove it"
        )

    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.StartElementHandler = lambda name, attributes: elements.start(
        name, attributes, parser.CurrentLineNumber
    )
    parser.CharacterDataHandler = elements.text
    parser.EndElementHandler = elements.end
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise EvidenceError(
            f"is not well-formed XML: {expat.errors.messages[error.code]}",
            where=f"{where}:{error.lineno}",
            do=do,
        ) from error
