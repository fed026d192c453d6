# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of ``cpuid -r`` output (etallen.com/cpuid), one CPU or all, all leaves or one.

::

    CPU 0:
       0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
"""

from __future__ import annotations

import re

from staleline.evidence.cpuid.dump import CpuidDump
from staleline.evidence.snapshot import Snapshot
from staleline.pattern import Pattern

__all__ = ["ROW", "is_wrapped", "parse", "unwrapped"]

#: A row; versions before 2006 print no sub-leaf.
ROW = Pattern(
    r"\s*0x([0-9a-fA-F]{8})(?:\s+0x([0-9a-fA-F]{2,8}))?:"
    r"\s+eax=0x([0-9a-fA-F]{8})\s+ebx=0x([0-9a-fA-F]{8})"
    r"\s+ecx=0x([0-9a-fA-F]{8})\s+edx=0x([0-9a-fA-F]{8})\s*"
)
_HEADER = Pattern(r"\s*CPU(?:\s+([0-9]{1,6}))?:\s*")
_BEGUN = r"[ \t]*0x[0-9a-f]{8}[ \t]+0x[0-9a-f]{2,8}:(?:[ \t]+e[abc]x=0x[0-9a-f]{8}){1,3}[ \t]*"
_BEGINS = Pattern(_BEGUN, re.IGNORECASE)
#: A row in two lines, as mail programs wrap it at 72 characters; between whole registers only.
_WRAPPED = Pattern(
    rf"^({_BEGUN})\r?\n[ \t]*((?:e[bcd]x=0x[0-9a-f]{{8}}[ \t]*){{1,3}})\r?$",
    re.MULTILINE | re.IGNORECASE,
)
_CONTINUES = Pattern(r"^[ \t]*e[bcd]x=0x[0-9a-f]{8}", re.MULTILINE | re.IGNORECASE)


def is_wrapped(line: str) -> bool:
    """Is this a row whose last registers a mail program has put into the next line?"""
    return _BEGINS.fullmatch(line) is not None


def unwrapped(text: str) -> str:
    """`text` with such rows in one line each, and an empty line where the other was."""
    return text if _CONTINUES.search(text) is None else _WRAPPED.sub(r"\1 \2\n", text)


def parse(text: str, where: str) -> Snapshot:
    """Return the machine that `text` describes.

    Raises:
        EvidenceError: A row is malformed or cut.
    """
    dump = CpuidDump(where)
    for number, line in enumerate(text.split("\n"), 1):
        if row := ROW.fullmatch(line):
            leaf, subleaf, eax, ebx, ecx, edx = (
                None if digits is None else int(digits, 16) for digits in row.groups()
            )
            assert leaf is not None
            dump.add(number, leaf, subleaf, (eax or 0, ebx or 0, ecx or 0, edx or 0))
        elif header := _HEADER.fullmatch(line):
            dump.start_cpu(int(header[1] or 0), number)
        elif line.lstrip().startswith("0x") or line.strip() == "0":
            raise dump.error(number, "is not a whole cpuid -r row")
    return dump.snapshot()
