# SPDX-License-Identifier: GPL-2.0-or-later
"""Text as mails, web pages, terminals and grep hand it on, without what they put to it.

Characters first: the spaces of web pages (`markup` has their tags), colours and cursor movements of
terminals, what ``cat -A`` shows, and the escapes of quoted-printable mail (RFC 2045). Then what
stands before every line: the marks of a quotation, the names and numbers of ``grep -n`` and
``cat -n``, the time at which a program took the line down, an indentation.
Lines keep their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from staleline.errors import EvidenceError
from staleline.pattern import Pattern

__all__ = ["OTHER_LINE", "plain_characters", "unquoted"]

#: What stands for a line that is of another quotation: a line, and nothing that is read.
OTHER_LINE: Final = "\N{HORIZONTAL ELLIPSIS}"

#: Category Zs of Unicode without the space itself.
_SPACES = Pattern("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
#: JSON is strings, and what stands between them. One without an end goes to that of the text: to
#: try each quote in it anew would take time that grows with the length's square.
_JSON_STRING = r'"(?:[^"\\]|\\[\s\S])*(?:"|\\?\Z)'
_SPACES_OF_JSON = Pattern(f"{_JSON_STRING}|{_SPACES.pattern}")
_INVISIBLE = Pattern("[\u00ad\u200b-\u200f\u2060\ufeff]")
#: ECMA-48 control sequences, xterm's titles, character sets; ^[ is what cat -v and less show of
#: ESC, #033 what rsyslog writes for it (parser.EscapeControlCharactersOnReceive).
_ESCAPE = Pattern(
    r"(?:\x1b|\^\[|#033)(?:\[[0-9;?]{0,20}[ -/]?[@-~]|\][^\x07\x1b\n]{0,200}(?:\x07|\x1b\\)|\([0B])"
)
#: Colours that have lost their ESC on the way, where a line begins with one.
_BARE_COLOUR = Pattern(r"\[[0-9]{0,2}(?:;[0-9]{1,3}){0,4}m")
_BEGINS_BARE = Pattern(r"^\[[0-9]{1,2}(?:;[0-9]{1,3}){0,4}m", re.MULTILINE)
_QUOTED_PRINTABLE = Pattern(r"=(?:[0-9A-F]{2}|[ \t]*\n)")
_SURELY_QUOTED_PRINTABLE = Pattern(r"=3D|=20$|=\n", re.MULTILINE)
#: A part of a mail as it was sent: a line of its header, which is not encoded itself (RFC 2045
#: section 6), up to the empty line. The part ends at a line of the mail's boundary (RFC 2046
#: section 5.1.1), or where a mailbox's next mail begins.
_HEADER = Pattern(
    r"^Content-Transfer-Encoding:[ \t]*\"?quoted-printable\b.*\n(?:[\w-]+:.*\n|[ \t]+\S.*\n)*\n",
    re.MULTILINE | re.IGNORECASE,
)
_BOUNDARY = Pattern(r'\bboundary="?([^"\s;]{1,70})', re.IGNORECASE)
_NEXT_MAIL = r"From \S+ .*[0-9]{4}$"

_MARKS = Pattern(r"[ \t]{0,3}(?:[>|]+[ \t]?)+")
#: cat -n, the clocks of CI services and VirtualBox, grep -n, grep of several files.
_NUMBERED = Pattern(
    r" {0,6}[0-9]{1,7}\t"
    r"|(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[T ])?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z? (?:\| )?"
    r"|(?:(?P<file>(?![0-9]+:)[\w./~+-]{1,200}):)?(?:[0-9]{1,7}[:-])?"
)
_INDENT = Pattern(r"[ \t]*")
#: Quoting marks and other prefixes are looked for in lines up to this length.
_LINE_MAX: Final = 4096

_Telling = Callable[[str], object]


def plain_characters(text: str, *, is_json: bool) -> str:
    """`text` in the characters that the tools printed, line by line."""
    if is_json:
        # A string of JSON holds no control character and no line end; it may hold any space.
        text = _without_visible_ends(_ESCAPE.sub("", text) if "\x1b" in text else text)
        return text if text.isascii() else _SPACES_OF_JSON.sub(_plain_space, text)
    if not text.isascii():
        text = _INVISIBLE.sub("", _SPACES.sub(" ", text))
    if "\x1b" in text or "^[" in text or "#033" in text:
        text = _ESCAPE.sub("", text)
    if _BEGINS_BARE.search(text):
        text = _BARE_COLOUR.sub("", text)
    return _decoded_mail(_without_visible_ends(text))


def _without_visible_ends(text: str) -> str:
    """`text` without the $ and ^I by which ``cat -A`` shows ends of lines and tabs."""
    if "$\n" not in text:
        return text
    lines = text.split("\n")
    if not all(line.endswith("$") for line in lines[:-1]):
        return text
    return "\n".join(line.removesuffix("$") for line in lines).replace("^I", "\t")


def _plain_space(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else " "


def _decoded_mail(text: str) -> str:
    """A text in which every equals sign is one of quoted-printable, decoded; so a mail's parts.

    A soft line break joins two lines, and the numbers of those behind it are of the joined text.
    """
    if not _SURELY_QUOTED_PRINTABLE.search(text):
        return text
    if len(_QUOTED_PRINTABLE.findall(text)) == text.count("="):
        return _decoded(text)
    return "".join(_parts_decoded(text)) if _HEADER.search(text) else text


def _parts_decoded(mail: str) -> Iterator[str]:
    """`mail` in pieces, of which those that a header calls quoted-printable are decoded."""
    boundaries = "".join(
        rf"|--{re.escape(boundary)}(?:--)?[ \t]*$" for boundary in set(_BOUNDARY.findall(mail))
    )
    ends = re.compile(f"^(?:{_NEXT_MAIL}{boundaries})", re.MULTILINE)
    at = 0
    while header := _HEADER.search(mail, at):
        behind = ends.search(mail, header.end())
        end = len(mail) if behind is None else behind.start()
        yield mail[at : header.end()]
        yield _decoded(mail[header.end() : end])
        at = end
    yield mail[at:]


def _decoded(text: str) -> str:
    import quopri

    return quopri.decodestring(text.encode()).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class _Dress:
    """What stands before each line: marks of a quotation, a number or time, an indentation."""

    marks: str
    numbered: bool
    file: str | None
    indent: str

    @property
    def plain(self) -> bool:
        """Does nothing stand before the lines?"""
        return not (self.marks or self.numbered or self.indent)

    def taken_off(self, line: str) -> str | None:
        """`line` without it; None where the line wears another."""
        if self.marks:
            match = _MARKS.match(line)
            if match is None or _marks(match[0]) != self.marks:
                return None if line.strip() else line
            line = line[match.end() :]
        if self.numbered:
            match = _NUMBERED.match(line)
            if not match or not match[0] or match["file"] != self.file:
                return None if line.strip() else line
            line = line[match.end() :]
        own = _INDENT.match(line)
        return line[min(len(self.indent), own.end() if own else 0) :]


def unquoted(text: str, where: str, telling: _Telling) -> str:
    """`text` without what stands before its lines; as it is where the lines stand bare.

    Args:
        text: In plain characters.
        where: The file, for error messages.
        telling: Is this a line that some format begins with?

    Raises:
        EvidenceError: It quotes two texts, of which nothing tells whose machine they are of.
    """
    lines = text.split("\n")
    first, dress = _first_dress(lines, telling)
    if dress is None or dress.plain:
        if dress is None and first:
            _require_no_quotation(lines, first, where, telling)
        return text
    taken_off = [dress.taken_off(line) for line in lines]
    for number, (line, rest) in enumerate(zip(lines, taken_off, strict=True), 1):
        if rest is None and number > first and any(map(telling, _rests(line))):
            raise _of_another(where, number, first)
    return "\n".join(OTHER_LINE if rest is None else rest for rest in taken_off)


def _of_another(where: str, number: int, first: int) -> EvidenceError:
    return EvidenceError(
        f"is of another quotation, or file, than line {first}",
        where=f"{where}:{number}",
        do="give one file per machine, without the lines of others",
    )


def _require_no_quotation(lines: list[str], first: int, where: str, telling: _Telling) -> None:
    """Refuse a quotation that tells something behind lines that stand bare.

    Raises:
        EvidenceError: There is one.
    """
    for number, line in enumerate(lines[first:], first + 1):
        marks = _MARKS.match(line) if line.lstrip()[:1] == ">" and len(line) <= _LINE_MAX else None
        if marks and not telling(line) and telling(line[marks.end() :]):
            raise _of_another(where, number, first)


def _first_dress(lines: list[str], telling: _Telling) -> tuple[int, _Dress | None]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or len(line) > _LINE_MAX:
            if telling(line):
                return number, None
            continue
        plain = telling(line)
        behind = lines[number : number + 1]
        numbered = _goes_on_numbered(line, behind)
        if plain and not numbered and not _goes_on_quoted(line, behind):
            return number, None
        for dress, rest in _dresses(line):
            if numbered and not dress.numbered:
                continue
            if telling(rest) or (rest == "{" and dress.marks):
                return number, dress
        if plain:
            return number, None
    return 0, None


def _goes_on_quoted(line: str, behind: list[str]) -> bool:
    """Is the mark that `line` begins with a quotation's, and no prompt?"""
    here = _MARKS.match(line)
    there = _MARKS.match(behind[0]) if behind else None
    return bool(here and there and _marks(here[0]) == _marks(there[0]))


def _goes_on_numbered(line: str, behind: list[str]) -> bool:
    """Is what `line` begins with grep's, and not a part of a prompt?

    The next line has the next number then, or the same file's name before something else than a
    command.
    """
    here, there = (_NUMBERED.match(text) if text else None for text in (line, *behind, "")[:2])
    if not here or not there or here["file"] != there["file"]:
        return False
    numbers = [_digits_of(found) for found in (here, there)]
    if None not in numbers:
        return int(numbers[0] or 0) + 1 == int(numbers[1] or 0)
    same_file = here["file"] is not None and numbers == [None, None]
    return same_file and not any(mark in behind[0][there.end() :] for mark in "#$%>")


def _digits_of(found: re.Match[str]) -> str | None:
    """The number of a line as grep -n and cat -n write it."""
    digits = found[0][len(found["file"]) + 1 if found["file"] else 0 :].strip(" \t:-")
    return digits if digits.isdecimal() else None


def _rests(line: str) -> Iterator[str]:
    yield line
    if len(line) <= _LINE_MAX:
        yield from (rest for _, rest in _dresses(line))


def _dresses(line: str) -> Iterator[tuple[_Dress, str]]:
    """What may stand before `line`, and the rest, in order of how likely it is."""
    marks = _MARKS.match(line)
    for mark in ("", marks[0]) if marks else ("",):
        rest = line[len(mark) :]
        prefix = _NUMBERED.match(rest)
        for number in (None, prefix) if prefix and prefix[0] else (None,):
            bare = rest if number is None else rest[number.end() :]
            indent = _INDENT.match(bare)
            for spaces in ("", indent[0]) if indent and indent[0] else ("",):
                file = None if number is None else number["file"]
                dress = _Dress(_marks(mark), number is not None, file, spaces)
                if not dress.plain:
                    yield dress, bare[len(spaces) :]


def _marks(prefix: str) -> str:
    return "".join(prefix.split())
