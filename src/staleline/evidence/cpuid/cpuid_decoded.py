# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of what ``cpuid`` prints without -r (etallen.com/cpuid): registers told in words.

::

    CPU 0:
       vendor_id = "AuthenticAMD"
       AMD Secure Encryption (0x8000001f):
          SME: secure memory encryption support    = true
          encryption bit position in PTE           = 0x2f (47)
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from staleline.evidence.snapshot import Note, Snapshot, Statement
from staleline.evidence.statements import agreed
from staleline.hardware import AMD_AND_HYGON, ENCRYPTION_LEAF
from staleline.pattern import Pattern

__all__ = ["is_row", "parse"]

_VENDOR = Pattern(r'\s*vendor_id\s*=\s*"([^"]{12})"\s*')
#: A heading: what the lines below it are of, and the leaf; 1/eax and 0x80000008/ebx too.
_HEADING = Pattern(r"\s*.*\((0x[0-9a-f]{1,8}|[0-9]{1,2})(?:/[a-z/]{3,12})?\):\s*")
_VALUE = Pattern(r"\s*(\S.*?)\s*=\s*(true|false|0x[0-9a-f]{1,8} \([0-9]{1,10}\))\s*")
_BEGINS = Pattern(r"\s*(?:AMD Secure Encryption|Memory Encryption) \(0x8000001f\):\s*")
_NOTE = Note("cpuid", "only decoded output of cpuid was given; run cpuid -r, or staleline collect")
_UNNAMED = Note(
    "cpuid",
    "without vendor_id nothing tells whether the CPU has the leaf; run cpuid -1 without -l",
)
#: By whether the vendor is told.
_NOTES = {True: (_NOTE,), False: (_NOTE, _UNNAMED)}
#: Leaves that all CPUs of 64 bits have.
_EVERYWHERE = frozenset({0, 1})


def is_row(line: str) -> bool:
    """Is this a line that decoded output begins with, of all leaves or of the one for SME?"""
    return _VENDOR.fullmatch(line) is not None or _BEGINS.fullmatch(line) is not None


def parse(text: str, where: str) -> Snapshot:
    """Return what `text` says of a machine; `where` is not needed, as nothing is refused."""
    del where
    vendors = {told[1] for line in text.split("\n") if (told := _VENDOR.fullmatch(line))}
    # With -l the tool asks for any leaf, whether or not the CPU has it, and names what comes by the
    # leaf: AMD's CPUs answer with zeros there, Intel's with the data of another leaf. What stands
    # without the vendor is therefore read of the leaves that every CPU has, and of no other.
    foreign = vendors.isdisjoint(AMD_AND_HYGON)
    statements = [
        statement
        for leaf, statement in _statements(text)
        if (vendors or leaf in _EVERYWHERE) and not (foreign and leaf == ENCRYPTION_LEAF)
    ]
    return Snapshot(cpus=(), statements=agreed(statements), notes=_NOTES[bool(vendors)])


def _statements(text: str) -> Iterator[tuple[int, Statement]]:
    """What lines say, each with the leaf that it is of."""
    leaf: int | None = None
    for line in text.split("\n"):
        if vendor := _VENDOR.fullmatch(line):
            yield 0, Statement("vendor", vendor[1], "cpuid, vendor_id")
        elif heading := _HEADING.fullmatch(line):
            leaf = int(heading[1], 0)
        elif leaf is not None and (said := _VALUE.fullmatch(line)):
            # Only words that tell a register's bits as they are.
            fact = _facts().get((leaf, said[1].casefold()))
            if fact is not None:
                yield leaf, Statement(fact, _value(said[2]), f"cpuid, {said[1]}")


def _value(text: str) -> bool | int:
    return text == "true" if text in ("true", "false") else int(text.partition(" ")[0], 16)


@cache
def _facts() -> Mapping[tuple[int, str], str]:
    table = tomllib.loads(files(__package__).joinpath("cpuid_words.toml").read_text("utf-8"))
    return {
        (row["leaf"], words.casefold()): row["fact"]
        for row in table["word"]
        for words in row["words"]
    }
