# SPDX-License-Identifier: GPL-2.0-or-later
"""A text parted into what each of its formats reads: several outputs, one behind another.

An output ends where a line tells another format for certain; behind a shell's prompt, any line
that tells one begins the next. Each part keeps the numbers of its lines.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from staleline.errors import EvidenceError
from staleline.evidence.formats import (
    Format,
    Parse,
    begins_document,
    format_of_line,
    is_of_messages,
    json_parser,
    xml_parser,
)
from staleline.evidence.pasted.prompts import host_of, is_prompt, without_prompts
from staleline.pattern import Pattern

__all__ = ["JSON_MAX", "Excerpt", "begins_as_document", "parts"]

#: What JSON is made of takes up to thirty times its length in memory.
JSON_MAX: Final = 8 << 20

#: Each output has as many empty lines before it as precede it, so that many would take time and
#: memory that grow with the length's square.
_PARTS_MAX: Final = 512
_BEFORE_MAX: Final = 64 << 20
_XML_DECLARATION = Pattern(r"(\s+)<\?xml[^>]*\?>")
_ROOT = Pattern(r"<(capabilities|domainCapabilities|cpudata)\b")
#: Wikis mark text that they leave alone as {code} or {noformat}.
_BEGINS_JSON = Pattern(r'\{\s*(?:"|\}|$)|\{(?![a-z])')
#: Tags that people put around what they paste.
_FRAGMENT = Pattern(r"<(?:details|summary|pre|code|samp|p|br|div|span|blockquote)\b", re.I)
#: The end of a JSON document in lines of its own, and something behind it.
_JSON_AND_MORE = Pattern(r"^\}[^\n]*\n\s*\S", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One output in a text: its reader, and its lines, behind as many empty ones as precede."""

    parse: Parse
    text: str
    document: bool

    @property
    def lines(self) -> range:
        """The numbers of its lines, from 0; empty ones at its beginning are none of it."""
        begin = len(self.text) - len(self.text.lstrip("\n"))
        return range(begin, self.text.count("\n") + (not self.text.endswith("\n")))

    def reads(self, line: str) -> bool:
        """Is what `line` says of the kernel known, where it is a line of this output?"""
        return self.document or _understood(self.parse, line)


def _understood(parse: Parse, line: str) -> bool:
    """Does the reader of an output know what `line` is, where it is a line that a kernel said?"""
    from staleline.evidence.log import dmesg, journal, xen

    if parse is dmesg.parse:
        return dmesg.is_read(line)
    if parse is journal.parse:
        return journal.is_read(line)
    return parse is xen.parse and xen.is_row(line)


def begins_as_document(text: str) -> bool:
    """Does `text` begin with JSON or XML, and not as a log or a fragment of a page does?"""
    begun = text.lstrip()
    if begun[:1] == "{":
        return _BEGINS_JSON.match(begun) is not None
    return (
        begun[:1] == "<"
        and not _FRAGMENT.match(begun)
        and not _is_message(begun.partition("\n")[0])
    )


def _is_message(line: str) -> bool:
    from staleline.evidence.log import printk

    return printk.message_of(line) is not None


def parts(text: str, where: str) -> list[Excerpt]:
    """The outputs in `text` that a reader knows, in order.

    Raises:
        EvidenceError: Its prompts are of two hosts, or it holds more outputs than a session does.
    """
    excerpts: list[Excerpt] = []
    left = len(text) + _BEFORE_MAX
    for excerpt in _Parting(text, where).parts():
        excerpts.append(excerpt)
        left -= len(excerpt.text)
        if len(excerpts) > _PARTS_MAX or left < 0:
            line = excerpt.lines.start + 1
            what = f"holds more outputs than a session does, line {line} one too many"
            raise EvidenceError(what, where=where, do="give those of one machine, each once")
    return excerpts


class _Parting:
    def __init__(self, text: str, where: str) -> None:
        self._text = text
        self._where = where
        self._lines = text.split("\n")
        self._starts = list(accumulate((len(line) + 1 for line in self._lines), initial=0))
        self._host: tuple[str, int] | None = None

    def parts(self) -> Iterator[Excerpt]:
        current: Format | None = None
        begin, number = 0, 0
        prompt: int | None = None
        if begins_as_document(self._text):
            number = len(self._lines) - len(self._text.lstrip().split("\n"))
            part, begin = self._document(number)
            yield part
            number = begin
        while number < len(self._lines):
            line = self._lines[number]
            if (host := host_of(line)) is not None:
                self._require_one_host(host, number)
            if host is not None or is_prompt(line):
                prompt = number
            # What tells a document or a format for certain needs nothing before it.
            if begins_document(line) and self._is_known(number):
                if current is not None:
                    yield self._lines_of(current, begin, number)
                part, number = self._document(number)
                yield part
                current, begin, prompt = None, number, None
                continue
            if recognised := self._format(line, current, prompted=prompt is not None):
                end = number if recognised is not current else self._second_log(recognised, prompt)
                if current is not None and end is not None:
                    yield self._lines_of(current, begin, end)
                    begin = end
                current, prompt = recognised, None
            number += 1
        if current is not None:
            yield self._lines_of(current, begin, len(self._lines))

    @staticmethod
    def _second_log(current: Format, prompt: int | None) -> int | None:
        """Where a log begins that another command than the last log's shows.

        What it shows need not come behind what the first showed, as lines of one log do.
        """
        return prompt if current.is_log else None

    @staticmethod
    def _format(line: str, current: Format | None, *, prompted: bool) -> Format | None:
        if current is None:
            return format_of_line(line)
        if current.is_row(line):
            return current
        return format_of_line(line, within_another=not prompted)

    def _lines_of(self, current: Format, begin: int, end: int) -> Excerpt:
        whole = begin == 0 and end == len(self._lines)
        text = self._text if whole else self._text[self._starts[begin] : self._starts[end]]
        return Excerpt(current.parse, without_prompts("\n" * begin + text), document=False)

    def _require_one_host(self, host: str, number: int) -> None:
        if self._host is not None and self._host[0] != host:
            raise EvidenceError(
                f"is of host {host}, and line {self._host[1]} of {self._host[0]}",
                where=f"{self._where}:{number + 1}",
                do="give one file per machine",
            )
        self._host = self._host or (host, number + 1)

    def _is_known(self, number: int) -> bool:
        """Does a document that is read begin at this line?"""
        begun = self._text[self._starts[number] : self._starts[number] + 200]
        if _ROOT.match(begun.lstrip()):
            return True
        return json_parser(begun) is not json_parser("{")

    def _document(self, number: int) -> tuple[Excerpt, int]:
        """The document that begins at this line, and the number of the line behind it."""
        start = self._starts[number]
        if self._text[start:].lstrip()[:1] == "<":
            end = self._end_of_xml(start)
            text = "\n" * number + self._text[start:end]
            # A declaration is allowed at the very beginning alone, and says nothing needed here.
            text = _XML_DECLARATION.sub(r"\1", text, count=1) if number else text
            part = Excerpt(xml_parser(text), text, document=True)
        else:
            parse = json_parser(self._text[start : start + 200])
            end = self._end_of_json(start, parse)
            part = Excerpt(parse, "\n" * number + self._text[start:end], document=True)
        return part, bisect_right(self._starts, max(end - 1, start))

    def _end_of_xml(self, start: int) -> int:
        root = _ROOT.search(self._text, start)
        closing = "" if root is None else f"</{root[1]}>"
        end = self._text.find(closing, start) if closing else -1
        return len(self._text) if end < 0 else end + len(closing)

    def _end_of_json(self, start: int, parse: Parse) -> int:
        lines_of_json = is_of_messages(parse) and '"dmesg"' not in self._text[start:][:200]
        whole = self._text.rstrip()[-1:] == "}" and not _JSON_AND_MORE.search(self._text, start)
        if lines_of_json or whole or len(self._text) - start > JSON_MAX:
            return len(self._text)
        try:
            begin = self._text.index("{", start)
            return json.JSONDecoder().raw_decode(self._text, begin)[1]
        except (ValueError, RecursionError):
            return len(self._text)
