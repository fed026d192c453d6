# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of ``cpuid -r`` output (etallen.com/cpuid), one CPU or all, all leaves or one.

::

    CPU 0:
       0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
"""

from __future__ import annotations

from staleline.evidence.cpuid.dump import CpuidDump
from staleline.evidence.snapshot import Snapshot
from staleline.pattern import Pattern

__all__ = ["ROW", "parse"]

#: A row; versions before 2006 print no sub-leaf.
ROW = Pattern(
    r"\s*0x([0-9a-fA-F]{8})(?:\s+0x([0-9a-fA-F]{2,8}))?:"
    r"\s+eax=0x([0-9a-fA-F]{8})\s+ebx=0x([0-9a-fA-F]{8})"
    r"\s+ecx=0x([0-9a-fA-F]{8})\s+edx=0x([0-9a-fA-F]{8})\s*"
)
_HEADER = Pattern(r"\s*CPU(?:\s+([0-9]{1,6}))?:\s*")


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
