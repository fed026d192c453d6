# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of libcpuid's raw dumps (``cpuid_tool --raw``), one CPU or all.

::

    basic_cpuid[0]=00000010 68747541 444d4163 69746e65
"""

from __future__ import annotations

from staleline.evidence.cpuid.dump import CpuidDump
from staleline.evidence.snapshot import Snapshot
from staleline.hardware import EXTENDED_LEAVES
from staleline.pattern import Pattern

__all__ = ["ROW", "parse"]

#: A row: array name, index, registers. Arrays by sub-leaf are named after their leaf, which is
#: hexadecimal if an h follows it (intel_fn11 is leaf 0xb, amd_fn8000001dh leaf 0x8000001d).
ROW = Pattern(
    r"(basic_cpuid|ext_cpuid|[a-z]+_fn([0-9a-f]{1,8}?)(h?))"
    r"\[([0-9]{1,4})\]="
    r"([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{8})\s*"
)
_BEGINS_ROW = Pattern(r"(?:basic_cpuid|ext_cpuid|intel_fn|amd_fn)")
_HEADER = Pattern(r"[-_\[ A-Za-z/]*Logical CPU #([0-9]{1,6})[\] ]*[-_]+\s*")

#: Array -> first leaf, for arrays indexed by leaf.
#: The second is recorded whether or not the CPU has the leaf, so these dumps also show what it
#: answers beyond its maximum (libcpuid, cpuid_serialize_raw_data()).
_BY_LEAF = {"basic_cpuid": 0, "ext_cpuid": EXTENDED_LEAVES}


def parse(text: str, where: str) -> Snapshot:
    """Return the machine that `text` describes.

    Raises:
        EvidenceError: A row is malformed, or there is none.
    """
    dump = CpuidDump(where)
    for number, line in enumerate(text.split("\n"), 1):
        if row := ROW.fullmatch(line):
            leaf, subleaf = _leaf(row[1], row[2], row[3], int(row[4]))
            eax, ebx, ecx, edx = (int(digits, 16) for digits in row.groups()[4:])
            dump.add(number, leaf, subleaf, (eax, ebx, ecx, edx))
        elif header := _HEADER.fullmatch(line):
            dump.start_cpu(int(header[1]), number)
        elif _BEGINS_ROW.match(line):
            raise dump.error(number, "is not a whole libcpuid row")
    return dump.snapshot()


def _leaf(array: str, leaf: str | None, hexadecimal: str, index: int) -> tuple[int, int]:
    if leaf is None:
        return _BY_LEAF[array] + index, 0
    return int(leaf, 16 if hexadecimal else 10), index
