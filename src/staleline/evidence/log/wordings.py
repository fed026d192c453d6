# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of kernel messages (wordings.toml), as types."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from staleline.pattern import Pattern

__all__ = [
    "LogValue",
    "Release",
    "Silence",
    "Wording",
    "release_of",
    "silences",
    "wordings",
    "wordings_of",
]

LogValue = bool | int | str
#: The first two numbers of a kernel release.
Release = tuple[int, int]

#: What print_cpu_info() calls a vendor (c_vendor in Linux 5.10 and 7.3
#: arch/x86/kernel/cpu/{amd,centaur,hygon,intel,zhaoxin}.c) -> the vendor in CPUID.
_BRANDS = {
    "AMD": "AuthenticAMD",
    "Centaur": "CentaurHauls",
    "Hygon": "HygonGenuine",
    "Intel": "GenuineIntel",
    "zhaoxin": "  Shanghai  ",
}


@dataclass(frozen=True, slots=True)
class Wording:
    """One row of the table; see the head of wordings.toml for the columns."""

    id: str
    pattern: str
    start: str
    first: Release
    last: Release | None
    source: tuple[str, ...]
    example: str
    proves: Mapping[str, LogValue]
    proves_on: Mapping[str, Mapping[str, LogValue]]
    numbers: Mapping[str, str]
    differences: Mapping[str, tuple[str, str]]
    bits: Mapping[str, str]
    texts: Mapping[str, str]
    brand: str | None
    vendors: frozenset[str]
    unlike: Mapping[str, str]
    once: bool
    tail: bool
    kept: bool
    says: str

    def match(self, message: str) -> re.Match[str] | None:
        """The pattern on the whole of `message`; compiled only where its start stands there."""
        if not message.startswith(self.start):
            return None
        return _compiled(self.pattern).fullmatch(message)

    def search(self, text: str) -> str | None:
        """The first message of this wording that stands anywhere in `text`."""
        if self.start not in text:
            return None
        message = _compiled(self.pattern).search(text)
        return None if message is None else message[0]

    def values(self, message: str, vendor: str | None = None) -> Mapping[str, LogValue]:
        """What `message` proves on a CPU of `vendor`; nothing where it is another wording."""
        words = self.match(message)
        return {} if words is None else dict(self._values(words, vendor))

    @property
    def quotes_command_line(self) -> bool:
        """Does it hold a command line, which alone tells something?"""
        return "(?P<cmdline>" in self.pattern

    def _values(self, match: re.Match[str], vendor: str | None) -> Iterator[tuple[str, LogValue]]:
        yield from self.proves.items()
        yield from self.proves_on.get(vendor or "", {}).items()
        for fact, group in self.texts.items():
            yield fact, match[group]
        for fact, group in self.numbers.items():
            if match[group] is not None:
                yield fact, _number(match[group])
        for fact, (end, start) in self.differences.items():
            if (difference := int(match[end]) - int(match[start])) >= 0:
                yield fact, difference
        for fact, group in self.bits.items():
            if (count := int(match[group]) + 1) & count - 1 == 0:
                yield fact, count.bit_length() - 1
        if self.brand is not None and (named := _vendor(match[self.brand])) is not None:
            yield "vendor", named


@dataclass(frozen=True, slots=True)
class Silence:
    """What the absence of all wordings `of` proves in a whole log of `first` to `last`."""

    fact: str
    value: LogValue
    first: Release
    last: Release
    of: frozenset[str]
    why: str


def wordings() -> tuple[Wording, ...]:
    """Every wording, in table order."""
    return tuple(_wording(text) for _, text in _rows())


def wordings_of(message: str) -> Iterator[Wording]:
    """The wordings whose pattern is that of the whole of `message`, in table order."""
    for start, text in _rows():
        if message.startswith(start) and (wording := _wording(text)).match(message):
            yield wording


@cache
def silences() -> tuple[Silence, ...]:
    """Every row of what silence proves."""
    rows = tomllib.loads("".join(_tables("silence")))["silence"]
    return tuple(
        Silence(
            row["fact"],
            row["value"],
            _release(row["first"]),
            _release(row["last"]),
            frozenset(row["of"]),
            row["why"],
        )
        for row in rows
    )


def release_of(text: str | None) -> Release | None:
    """The first two numbers of a kernel release such as ``6.12.107+deb13-amd64``."""
    release = re.match(r"([0-9]{1,3})\.([0-9]{1,4})(?![0-9])", text or "")
    return None if release is None else (int(release[1]), int(release[2]))


# Parsing the whole table takes longer than reading a log: a row is parsed when a message begins as
# its pattern does.

#: In either kind of quotes; where an escape stands, what can be told at a glance has ended.
_PATTERN = Pattern("""^pattern = ['"](.*)['"]$""", re.MULTILINE)


@cache
def _rows() -> tuple[tuple[str, str], ...]:
    """Of each wording how its pattern begins, and the text of its row."""
    return tuple((_start(_PATTERN.findall(text)[0]), text) for text in _tables("wording"))


def _tables(name: str) -> list[str]:
    """The text of each table of the array `name`, its heading first."""
    tables = _table_text().split("\n[[")
    return [f"[[{text}\n" for text in tables if text.startswith(f"{name}]]")]


@cache
def _table_text() -> str:
    return files(__package__).joinpath("wordings.toml").read_text("utf-8")


@cache
def _wording(text: str) -> Wording:
    (row,) = tomllib.loads(text)["wording"]
    return Wording(
        id=row["id"],
        pattern=row["pattern"],
        start=_start(row["pattern"]),
        first=_release(row["first"]),
        last=_release(row["last"]) if "last" in row else None,
        source=tuple(row["source"]),
        example=row["example"],
        proves=row.get("proves", {}),
        proves_on=row.get("proves_on", {}),
        numbers=row.get("numbers", {}),
        differences={name: (end, start) for name, (end, start) in _items(row, "differences")},
        bits=row.get("bits", {}),
        texts=row.get("texts", {}),
        brand=row.get("brand"),
        vendors=frozenset(row.get("vendors", ())),
        unlike=row.get("unlike", {}),
        once=row.get("once", False),
        tail=row.get("tail", False),
        kept=row.get("kept", True),
        says=row.get("says", ""),
    )


def _items(row: Mapping[str, Any], column: str) -> Iterator[tuple[str, Any]]:
    yield from row.get(column, {}).items()


def _release(text: str) -> Release:
    release = release_of(text)
    assert release is not None, text
    return release


#: Compiling all of them takes longer than reading a log.
_compiled = cache(re.compile)


def _start(pattern: str) -> str:
    """What every match of `pattern` begins with, as far as it can be told at a glance."""
    start = re.match(r"[\w :,/-]*", pattern)
    assert start is not None
    # A letter with * or ? behind it may be missing; an alternative may begin otherwise.
    optional = pattern[start.end() : start.end() + 1] in ("*", "?", "{", "|")
    return start[0][:-1] if optional else start[0]


def _number(digits: str) -> int:
    return int(digits, 16) if digits.startswith("0x") else int(digits)


def _vendor(name: str) -> str | None:
    """The one vendor whose name stands in a CPU's name; two may be a guest's invention."""
    named = [vendor for brand, vendor in _BRANDS.items() if brand in name]
    return named[0] if len(named) == 1 else None
