# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts that are given as numbers: what xxd, hexdump and od print of a file, and base64.

::

    00000000  5b 20 20 20 20 30 2e 30  30 30 30 30 30 5d 20 4c  |[    0.000000] L|

Nothing is read of them, as what stands in them may be of any machine, and be cut anywhere. But a
message of a kernel in one is known to be unread, and a file that holds nothing else is refused by
what it is.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from staleline.errors import EvidenceError
from staleline.pattern import Pattern

__all__ = ["numbers_refused", "texts_in_numbers"]

_DO: Final = "give the text that it shows, or what `xxd -r` or `base64 -d` makes of it"
#: Place of the first byte, then numbers of one width, and what they are in letters.
_ROW = Pattern(
    r"[ \t]*(?:0x)?[0-9A-Fa-f]{5,16}:?[ \t]+((?:[0-9A-Fa-f]{2,16}(?:[ \t]+|$))+)(?:\S.*)?"
)
#: od -c, which shows letters, and numbers for what is none.
_LETTERS = Pattern(r"[ \t]*[0-7]{7}((?:   [!-~]|    |  \\[0abfnrtv]| [0-7]{3})+)")
#: xxd -p, and base64; one line of either is seldom all.
_BARE = Pattern(r"[ \t]*((?:[0-9A-Fa-f]{2}){20,})[ \t]*")
_BASE64 = Pattern(r"[ \t]*([A-Za-z0-9+/]{60,}={0,2})[ \t]*")
_END_OF_BASE64 = Pattern(r"[ \t]*([A-Za-z0-9+/]+={0,2})[ \t]*")
#: hexdump and od show so that the rows above go on.
_SQUEEZED: Final = "*"
#: One of them anywhere, as most evidence has none.
_ANY: Final = Pattern(
    r"^[ \t]*(?:(?:0x)?[0-9A-Fa-f]{5,16}:?[ \t]+(?:[0-9A-Fa-f]{2,16}[ \t]+){2}"
    r"|[0-7]{7}(?:   [!-~]|    |  \\)|[0-9A-Fa-f]{40}|[A-Za-z0-9+/]{60,76}={0,2}$)",
    re.MULTILINE,
)
#: A row shows no more bytes, unless it was told to.
_WIDEST: Final = 64
_ESCAPES: Final = dict(zip("0abfnrtv", "\0\a\b\f\n\r\t\v", strict=True))

_Decode = Callable[[Sequence[str]], bytes]


def texts_in_numbers(text: str) -> Iterator[tuple[int, str]]:
    """What stands in encoded lines of `text`, with the number from 0 of the first of them.

    Where the order of bytes is not told, both.
    """
    if _ANY.search(text) is None:
        return
    for first, rows, forms in _runs(text.split("\n")):
        for form in forms:
            yield first, form(rows).decode("latin-1")


def numbers_refused(text: str, where: str) -> EvidenceError | None:
    """The error about a text in which something is encoded; None where nothing is."""
    if _ANY.search(text) is None:
        return None
    run = next(_runs(text.split("\n")), None)
    if run is None:
        return None
    what = "is a dump of a file in numbers, of which nothing is read"
    return EvidenceError(what, where=f"{where}:{run[0] + 1}", do=_DO)


def _runs(lines: Sequence[str]) -> Iterator[tuple[int, list[str], tuple[_Decode, ...]]]:
    """Lines of one kind behind one another: where they begin, their numbers, how to read them."""
    number = 0
    while number < len(lines):
        for pattern, others, forms in _KINDS:
            if pattern.fullmatch(lines[number]) is None:
                continue
            rows: list[str] = []
            first = number
            while number < len(lines):
                match = pattern.fullmatch(lines[number]) or others.fullmatch(lines[number])
                if match is None and lines[number].strip() != _SQUEEZED:
                    break
                if match is not None:
                    rows.append(match[1])
                number += 1
            yield first, rows, forms
            break
        else:
            number += 1


def _words(order: str) -> _Decode:
    def form(rows: Sequence[str]) -> bytes:
        return b"".join(_bytes_of(row.split(), order) for row in rows)

    return form


def _bytes_of(words: Sequence[str], order: str) -> bytes:
    """The numbers at the beginning of a row that have one width; the last may be shorter."""
    width = len(words[0])
    octal = width in (3, 6)
    size = 1 if width == 3 else width // 2 if not octal else 2
    row = bytearray()
    for word in words:
        if len(word) > width or len(row) >= _WIDEST or (len(word) % 2 and not octal):
            break
        try:
            value, length = int(word, 8 if octal else 16), size if octal else len(word) // 2
            row += value.to_bytes(length, "little" if octal or order == "little" else "big")
        except (ValueError, OverflowError):
            break
        if len(word) < width:
            break
    return bytes(row)


def _letters(rows: Sequence[str]) -> bytes:
    return "".join(
        _letter(row[at : at + 4]) for row in rows for at in range(0, len(row), 4)
    ).encode("latin-1", "replace")


def _letter(cell: str) -> str:
    sign = cell.lstrip()
    if sign.startswith("\\"):
        return _ESCAPES[sign[1]]
    return chr(int(sign, 8) & 0xFF) if len(sign) == 3 else sign or " "


def _hexadecimal(rows: Sequence[str]) -> bytes:
    return b"".join(map(bytes.fromhex, rows))


def _base64(rows: Sequence[str]) -> bytes:
    whole = "".join(rows).rstrip("=")
    try:
        return binascii.a2b_base64(whole[: len(whole) // 4 * 4])
    except binascii.Error:
        return b""


_NOTHING = Pattern(r"(?!)")
#: What a run begins with, what else goes on with it, and how it may be read.
_KINDS: Final[tuple[tuple[Pattern, Pattern, tuple[_Decode, ...]], ...]] = (
    (_LETTERS, _NOTHING, (_letters,)),
    (_ROW, _NOTHING, (_words("big"), _words("little"))),
    (_BARE, Pattern(r"[ \t]*((?:[0-9A-Fa-f]{2})+)[ \t]*"), (_hexadecimal,)),
    (_BASE64, _END_OF_BASE64, (_base64,)),
)
