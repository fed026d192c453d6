# SPDX-License-Identifier: GPL-2.0-or-later
"""Text as a web page holds it: with tags around and within its lines, and references in them.

::

    <pre>flags &#58; fpu <b>sme</b> sev</pre>

What a browser would show is read, where that is one text: a page of several blocks may show several
machines, and one without any shows no line as it was printed.
"""

from __future__ import annotations

import html
import re
from typing import Final

from staleline.errors import EvidenceError
from staleline.pattern import Pattern

__all__ = ["as_shown"]

_PAGE = Pattern(
    r"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_RTF = Pattern(r"\s*\{\\rtf1")
#: Documents that have readers of their own, in which references are the reader's.
_XML = Pattern(r"<(?:[?!]|capabilities\b|domainCapabilities\b|cpudata\b)")
_BLOCK = Pattern(r"<(pre|textarea|xmp)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_UNSHOWN = Pattern(
    r"<!--.*?-->|<(script|style|head|title)\b[^>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL
)
#: Those that begin or end a line, those that part cells, and those that stand within a line. No log
#: holds one: what the kernel puts into angle brackets are levels, addresses and <TASK>.
_BREAKS: Final = "br|p|div|pre|li|ul|ol|tr|table|tbody|thead|h[1-6]|blockquote|details|summary|hr"
_CELLS: Final = "td|th"
_INLINE: Final = (
    "a|b|i|u|s|em|strong|tt|code|samp|kbd|var|span|font|mark|small|big|sub|sup|wbr|html|body"
)
_NAMES: Final = f"{_BREAKS}|{_CELLS}|{_INLINE}"
_TAGS = Pattern(rf"(?:</?(?:{_NAMES})(?:\s[^<>]*)?/?>)+", re.IGNORECASE)
#: A tag that a text other than a page's may not hold by chance.
_SURELY = Pattern(rf"</(?:{_NAMES})\s*>|<(?:br|hr)\s*/?>", re.IGNORECASE)
_BREAK = Pattern(rf"</?(?:{_BREAKS})\b", re.IGNORECASE)
_CELL = Pattern(rf"</?(?:{_CELLS})\b", re.IGNORECASE)
#: With their semicolon: an address may hold &copy=1 or &lt=2, which no page would show as a mark.
_REFERENCE = Pattern(r"&(?:lt|gt|quot|amp|apos|nbsp|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
#: A page that quotes another page's source escapes it once more.
_TIMES: Final = 3


def as_shown(text: str, where: str) -> str:
    """`text` as a browser shows it; as it is where it is none of a page.

    Raises:
        EvidenceError: It is a page of no block of lines or of several, or another document.
    """
    if _RTF.match(text):
        raise _refused(where, "is the source of a document in RTF", "save the text that it shows")
    if "<" in text:
        if _PAGE.match(text):
            text = _only_block(text, where)
        if _SURELY.search(text):
            text = _without_tags(text)
    if "&" in text and _REFERENCE.search(text) and not _XML.search(text):
        text = _without_references(text)
    return text


def _refused(where: str, what: str, do: str) -> EvidenceError:
    return EvidenceError(what, where=where, do=do)


def _only_block(page: str, where: str) -> str:
    """The text of the page's one block in which lines are kept, with its tags, at its own lines."""
    blocks = list(_BLOCK.finditer(_UNSHOWN.sub(_line_ends, page)))
    if len(blocks) != 1:
        count = f"{len(blocks)} blocks" if blocks else "no block"
        what = f"is the source of a web page with {count} of lines as a tool printed them (<pre>)"
        raise _refused(where, what, "save the text that it shows of one machine")
    (block,) = blocks
    return "\n" * page.count("\n", 0, block.start(2)) + block[2]


def _line_ends(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def _without_tags(text: str) -> str:
    text = _UNSHOWN.sub(_line_ends, text)
    return _TAGS.sub(lambda found: _instead(found, text), text)


def _instead(tags: re.Match[str], text: str) -> str:
    """What tags come to: the end of a line, unless one stands there anyway; a blank; nothing."""
    if _BREAK.search(tags[0]):
        at_line_end = text[tags.end() : tags.end() + 1] == "\n"
        at_line_start = text[max(tags.start() - 1, 0) : tags.start()] in ("\n", "")
        return "" if at_line_end or at_line_start else "\n"
    return " " if _CELL.search(tags[0]) else ""


def _without_references(text: str) -> str:
    for _ in range(_TIMES):
        text, times = re.subn(_REFERENCE.pattern, lambda found: html.unescape(found[0]), text)
        if not times:
            break
    return text
