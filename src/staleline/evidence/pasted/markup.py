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
from collections.abc import Iterator
from typing import Final

from staleline.errors import EvidenceError
from staleline.pattern import Pattern

__all__ = ["as_shown"]

#: Each comment is taken once: the next may not be tried as a part of the one before.
_PAGE = Pattern(
    r"\s*(?:<\?xml[^>]*\?>\s*)?(?><!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_RTF = Pattern(r"\s*\{\\rtf1")
#: Documents that have readers of their own, in which references are the reader's.
_XML = Pattern(r"<(?:[?!]|capabilities\b|domainCapabilities\b|cpudata\b)")
#: No tag is longer, and whoever never ends one would have the rest of the text tried for its end.
_TAG: Final = r"\b[^>]{0,2000}>"
_BLOCK = Pattern(rf"<(?P<name>pre|textarea|xmp){_TAG}", re.IGNORECASE)
_UNSHOWN = Pattern(rf"<!--|<(?P<name>script|style|head|title){_TAG}", re.IGNORECASE)
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
    shown = _without_unshown(page)
    blocks = list(_enclosed(shown, _BLOCK))
    if len(blocks) != 1:
        count = f"{len(blocks)} blocks" if blocks else "no block"
        what = f"is the source of a web page with {count} of lines as a tool printed them (<pre>)"
        raise _refused(where, what, "save the text that it shows of one machine")
    ((begin, end),) = blocks
    return "\n" * shown.count("\n", 0, begin.end()) + shown[begin.end() : end.start()]


def _enclosed(text: str, begins: Pattern) -> Iterator[tuple[re.Match[str], re.Match[str]]]:
    """Where each begins and ends that has an end.

    What has none is passed over once for all of its name: to look for the end of each anew would
    take time that grows with the length's square.
    """
    at = 0
    endless: set[str] = set()
    while begin := begins.search(text, at):
        at = begin.end()
        name = (begin.groupdict()["name"] or "").lower()
        if name in endless:
            continue
        end = re.compile(rf"</{name}\s*>" if name else "-->", re.IGNORECASE).search(text, at)
        if end is None:
            endless.add(name)
            continue
        yield begin, end
        at = end.end()


def _without_unshown(text: str) -> str:
    shown: list[str] = []
    at = 0
    for begin, end in _enclosed(text, _UNSHOWN):
        shown += (text[at : begin.start()], "\n" * text.count("\n", begin.start(), end.end()))
        at = end.end()
    return "".join((*shown, text[at:]))


def _without_tags(text: str) -> str:
    text = _without_unshown(text)
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
