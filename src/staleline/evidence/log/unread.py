# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages of the kernel that stand in lines which no reader takes for the kernel's.

A log behind a dump may wear anything: marks of a chat, cells of a table, strings of JSON, times in
a form that nobody foresaw.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Final

from staleline.evidence.log.hearts import HEARTS, HEARTS_OF_KINDS
from staleline.evidence.snapshot import UnreadMessage
from staleline.pattern import Pattern

if TYPE_CHECKING:
    from staleline.evidence.log.wordings import Wording

__all__ = ["unread_messages"]

#: All bytes but letters, digits and line ends.
_MARKS: Final = bytes(
    code for code in range(256) if not (chr(code).isalnum() and code < 0x80) and code != 0x0A
)
#: A message may be wrapped over so many lines, and takes so much of them.
_LINES, _LENGTH = 4, 1200
#: What stands in a message before its heart.
_BEFORE: Final = 400
#: By so much a message that was cut is known, where its wording may begin in several ways.
_CUT: Final = 12
#: No kind that follows a heart's beginning is longer.
_KIND_MAX: Final = 32
#: What stands between words where text is put into tables, strings and markup.
_BETWEEN = Pattern(r"(?:\\[nrt]|[\s|*`\"'\\>]|</?[a-z]{1,6}/?>)+")
#: Letters and digits that stand for a mark or a blank: colours without their ESC, escapes of
#: addresses, strings, web pages and rsyslog; and tags. They are looked for where one of
#: `_CODED` is.
_CODES = Pattern(
    r"\[[0-9;]{0,12}m|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[nrt]"
    r"|&(?:nbsp|#[0-9]{1,4}|#x[0-9A-Fa-f]{1,4});|#0[0-9]{2}"
)
_TAGS = Pattern(r"</?[A-Za-z][^<>\n]{0,200}>")
_CODED: Final = ("</", "[0m", "%20", "\\u00", "\\t", "&nbsp;", "&#", "#011")
_TIME: Final = Pattern(r"[\[(]? *[0-9]{1,10}[.,][0-9]{1,9}[\])]? *")
#: What may be a kernel's command line, and not just somebody's: it sets something.
_SETS: Final = "="

#: Is a line, of this number from 0 and with this text, read as what it says?
_IsRead = Callable[[int, str], bool]


def unread_messages(
    given: str, text: str, where: str, is_read: _IsRead
) -> tuple[UnreadMessage, ...]:
    """The messages in a text that are in no line that is read, each once.

    Args:
        given: The text, with all that stands before its lines.
        text: The same lines as readers get them.
        where: The file, for the messages' places.
        is_read: Whether a reader understands what a line of `text` says.
    """
    reader = _Reader(text, where, is_read)
    reader.look(given)
    # One character is looked for much faster than several.
    if any(code[0] in given and code in given for code in _CODED):
        uncoded = _CODES.sub(" ", given)
        reader.look(uncoded)
        # A message may stand within a tag, too.
        reader.look(_TAGS.sub(" ", uncoded))
    # What a line wears is not known, so whose it is is not known either: it may be this machine's,
    # or prose about another. Neither is a fact, and neither may be passed over. So such messages
    # are kept apart, with their places, and whoever judges asks whether they would change anything.
    return reader.messages()


def _hits(letters: bytes) -> Iterator[tuple[int, str, int]]:
    """Where a heart stands, whose it is and how long it is."""
    for begin, ends in HEARTS.items():
        start = begin.encode()
        at = letters.find(start)
        while at >= 0:
            for end, ids in ends.items():
                if letters.startswith(end.encode(), at + len(start)):
                    yield from ((at, id_, len(begin) + len(end)) for id_ in ids)
            at = letters.find(start, at + 1)
    for begin, (kinds, id_) in HEARTS_OF_KINDS.items():
        start = begin.encode()
        at = letters.find(start)
        while at >= 0:
            behind = letters[at + len(start) :][:_KIND_MAX].decode("ascii")
            if heart := kinds.match(behind):
                yield at, id_, len(begin) + heart.end()
            at = letters.find(start, at + 1)


class _Reader:
    def __init__(self, text: str, where: str, is_read: _IsRead) -> None:
        self._text = text
        self._lines: Sequence[str] = ()
        self._undressed: Sequence[str] = ()
        self._where = where
        self._is_read = is_read
        self._wordings: dict[str, Wording] = {}
        self._read: dict[int, bool] = {}
        #: Text and line of those that were found, and of those that stand for what was not.
        self._found: dict[str, int] = {}
        self._alike: list[tuple[int, Wording]] = []
        self._told: set[int] = set()

    def look(self, text: str) -> None:
        """Note what stands in the lines of `text` that are not read."""
        # Without what is between letters and digits, and so without line ends.
        lines = text.encode("ascii", "ignore").translate(None, _MARKS)
        hits = sorted(_hits(lines.replace(b"\n", b"")))
        if not hits:
            return
        from staleline.evidence.log.wordings import wordings

        self._wordings = self._wordings or {row.id: row for row in wordings()}
        self._lines, self._undressed = text.split("\n"), self._text.split("\n")
        starts = list(accumulate((len(line) for line in lines.split(b"\n")), initial=0))
        for at, id_, length in hits:
            first = bisect_right(starts, at) - 1
            last = bisect_right(starts, at + length - 1) - 1
            self.read(first, last, id_, at - starts[first])

    def read(self, first: int, last: int, id_: str, letter: int) -> None:
        """Note what the lines from `first` to `last` say, which hold a heart from `letter` on."""
        if all(self._passed(number) for number in range(first, last + 1)):
            return
        row = self._wordings[id_]
        for window in self._windows(first, last, letter):
            if found := row.search(window):
                if not row.quotes_command_line or _SETS in found:
                    self._found.setdefault(found, first)
                self._told.add(first)
                return
        from staleline.evidence.log.printk import message_of

        message = message_of(self._undressed[first])
        # A message that was cut tells nothing, and is known to be the kernel's.
        begin = row.start or row.example[:_CUT]
        if message is None or not message.text.startswith(begin):
            self._alike.append((first, row))

    def messages(self) -> tuple[UnreadMessage, ...]:
        """What was found; of a heart whose words cannot be made out, the wording's example."""
        for number, row in self._alike:
            # Wordings with a command line or a release prove nothing but what stands there. Dozens
            # of other messages say "command line", one of them in nearly every log (linux 7.3.4
            # init/main.c print_unknown_bootoptions()).
            if number not in self._told and not row.texts and not row.quotes_command_line:
                self._found.setdefault(row.example, number)
        return tuple(
            UnreadMessage(f"{self._where}:{number + 1}", text)
            for text, number in self._found.items()
        )

    def _passed(self, number: int) -> bool:
        passed = self._read.get(number)
        if passed is None:
            passed = self._read[number] = self._is_read(number, self._undressed[number])
        return passed

    def _windows(self, first: int, last: int, letter: int) -> Iterator[str]:
        """The lines as they stand, then as one, then without what stands between their words."""
        begun = self._lines[first][max(_column(self._lines[first], letter) - _BEFORE, 0) :]
        yield begun[:_LENGTH] if first == last else ""
        lines = (begun, *self._lines[first + 1 : min(last + 1, first + _LINES) + 1])
        for joint in (" ", ""):
            yield joint.join(line.strip() for line in lines)[: 2 * _LENGTH]
        plain = " ".join(_BETWEEN.sub(" ", line).strip() for line in lines)
        yield plain[: 2 * _LENGTH]
        yield _TIME.sub("", plain)[: 2 * _LENGTH]


def _column(line: str, letter: int) -> int:
    """Where the letter or digit of this number stands, from 0."""
    letters = (at for at, sign in enumerate(line) if sign.isascii() and sign.isalnum())
    return next(islice(letters, letter, None), 0)
